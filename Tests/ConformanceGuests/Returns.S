// Near calls and returns: pairs, and what does not pair. What a translator remembers of a call must not show.

#include "guest.h"

#define ENTRY(page) PAGE_LEVEL1 + ((page) >> 12) * 8
#define PAGE 0x30000
#define OTHER 0x31000

// The code behind a call is changed before the call returns, after it has run three times.
guest returns_changed, 64
  movl $4, %ebp
1:
  call 4f
2:
  movl $0x11, %eax
  user_emit %rax
  decl %ebp
  jnz 1b
  user_finish
4:
  cmpl $1, %ebp
  jne 5f
  movb $0x22, AT(2b) + 1
5:
  ret
endguest returns_changed

// One function called from two places at one depth of the stack, a return behind the instruction that follows, a return by another
// way than the call's, a call that never returns, and returns without a call.
guest returns_unpaired, 64
  movl $3, %ebp
1:
  movl $1, %ebx
  call 4f
  addl $0x10, %ebx
  call 4f
  addl $0x100, %ebx
  user_emit %rbx
  // Over the ADD, whose length is three.
  call 5f
  addl $7, %ebx
  user_emit %rbx
  // From the caller's caller.
  call 6f
  user_emit %rbx
  // Its own address, for code that asks where it is.
  call 2f
2:
  popq %rax
  subq $AT(2b), %rax
  user_emit %rax
  // A jump by RET, to where the last call would not have gone.
  movl $AT(3f), %eax
  pushq %rax
  ret
  user_emit %rbp
3:
  // Two returns in turn from one place of the stack, which one call has written.
  movl $AT(8f), %eax
  pushq %rax
  call 4f
  ret
  user_emit %rbp
8:
  user_emit %rbx
  decl %ebp
  jnz 1b
  user_finish
4:
  incl %ebx
  ret
5:
  addq $3, (%rsp)
  ret
6:
  call 7f
  user_emit %rbp
7:
  addq $8, %rsp
  ret
endguest returns_unpaired

// One call, and many returns to where it was made, from its place of the stack; then the code there is changed.
guest returns_again, 64
  xorl %ecx, %ecx
  call 4f
2:
  movl $0x11, %eax
  incl %ecx
  cmpl $1000, %ecx
  je 3f
  ja 5f
  pushq %rbx
  ret
3:
  user_emit %rax
  movb $0x22, AT(2b) + 1
  pushq %rbx
  ret
4:
  movq (%rsp), %rbx
  ret
5:
  user_emit %rax
  user_emit %rcx
  user_finish
endguest returns_again

// Calls itself with one less, on the stack, until that is 0, and adds up in EBX what there was. `r` names registers of the stack's width.
.macro descend r:req, size:req
2:
  movl \size(%\r\()sp), %ecx
  decl %ecx
  jz 3f
  push %\r\()cx
  call 2b
  addl \size(%\r\()sp), %ebx
3:
  ret $\size
.endm

// Three times 3000 deep.
.macro descend_thrice r:req
  mov %\r\()sp, %\r\()di
  movl $DATA + 0x20000, %esp
  xorl %ebx, %ebx
  movl $3, %ebp
1:
  movl $3000, %ecx
  push %\r\()cx
  call 2f
  user_emit %\r\()bx
  decl %ebp
  jnz 1b
.endm

// Deeper than anything that remembers calls, with RET's own release of arguments, down and up again.
guest returns_deep, 64
  descend_thrice r
  leaq -DATA - 0x20000(%rsp), %rax
  user_emit %rax
  movq %rdi, %rsp
  user_finish
  descend r, 8
endguest returns_deep

// The same in 32-bit code.
guest returns_deep_compatibility, 32
  descend_thrice e
  movl %edi, %esp
  user_finish
  descend e, 4
endguest returns_deep_compatibility

// A return address that has become one that is not canonical, but for its upper bits the one that the call has pushed: #GP at the
// return, RSP as it was.
guest returns_not_canonical, 64
  movq %rsp, %r12
  movl $4, %ebp
1:
  call 4f
2:
  user_emit %rbp
  decl %ebp
  jnz 1b
3:
  leaq 8(%rsp), %rax
  subq %r12, %rax
  user_emit %rax
  user_finish
4:
  cmpl $1, %ebp
  jne 6f
  btcq $52, (%rsp)
  arm 5f, 3b
5:
  ret
6:
  ret
endguest returns_not_canonical

// call *%rdx; mov $imm, %eax; ret
.macro caller at:req, value:req
  movl $0xb8d2ff | \value << 24, \at
  movl $0xc3000000, \at + 4
.endm

// Another page comes to where the call was while it is in work, by INVLPG, by a load of CR3, and by the pages' being global ones that
// CR4.PGE's change drops.
guest returns_remapped, 64
  caller PAGE, 0x11
  caller OTHER, 0x22
  movl $AT(5f), %edx
  movl $PAGE, %ecx
  movl $3, %ebp
1:
  // Three times as it is, so that everything is known.
  movl $AT(4f), %esi
  call *%rcx
  emit
  call *%rcx
  emit
  call *%rcx
  emit
  // INVLPG, there and back.
  movl $AT(6f), %esi
  call *%rcx
  emit
  call *%rcx
  emit
  // CR3.
  movl $AT(7f), %esi
  call *%rcx
  emit
  call *%rcx
  emit
  // Global pages.
  movq %cr4, %rax
  btsq $7, %rax
  movq %rax, %cr4
  orl $0x100, ENTRY(PAGE)
  invlpg PAGE
  movl $AT(4f), %esi
  call *%rcx
  emit
  movl $AT(8f), %esi
  call *%rcx
  emit
  movl $AT(4f), %esi
  call *%rcx
  emit
  andl $~0x100, ENTRY(PAGE)
  movl $AT(6f), %esi
  call *%rcx
  emit
  decl %ebp
  jnz 1b
  finish
4:
  ret
5:
  jmp *%rsi
6:
  xorl $PAGE ^ OTHER, ENTRY(PAGE)
  invlpg PAGE
  ret
7:
  xorl $PAGE ^ OTHER, ENTRY(PAGE)
  movq %cr3, %rax
  movq %rax, %cr3
  ret
8:
  xorl $PAGE ^ OTHER, ENTRY(PAGE)
  movq %cr4, %rax
  btcq $7, %rax
  movq %rax, %cr4
  ret
endguest returns_remapped

// The same code called at CPL 0, and returned to at CPL 3 from the same place of the stack: it has the rights of CPL 3.
guest returns_to_user, 64
  movl $USER_STACK, %esp
  movl $4, %ebp
  // call *%rdx; mov %ebp, %eax; mov %cr0, %rbx; jmp *%rsi
  movl $0xe889d2ff, PAGE
  movl $0xffc3200f, PAGE + 4
  movb $0xe6, PAGE + 8
  movl $AT(2f), %esi
  movl $PAGE, %ecx
1:
  movl $AT(4f), %edx
  cmpl $1, %ebp
  jne 3f
  movl $AT(5f), %edx
  movl $PAGE + 4, EXPECTED
  movl $AT(7f), RESUME
3:
  jmp *%rcx
2:
  emit
  decl %ebp
  jnz 1b
4:
  ret
5:
  movq %rsp, %rax
  pushq $USER_DATA
  pushq %rax
  pushq $2
  pushq $USER_CODE64
  pushq $AT(6f)
  iretq
6:
  ret
7:
  user_emit %rax
  user_finish
endguest returns_to_user
