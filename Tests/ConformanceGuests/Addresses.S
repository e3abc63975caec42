// Code that runs at several linear addresses: the same page twice in one address space and at the same addresses in two,
// with another page behind it each time.
#include "guest.h"

#define VIEW 0x40000000
#define ALIAS (VIEW + 0x8000)
#define SPACE1 PAGE_LEVEL4
#define SPACE2 0x33000
// The first space's entry for the page behind VIEW.
#define BEHIND (0x32000 + 8)
#define SHARED 0x100000
#define FIRST 0x102000
#define SECOND 0x104000
// Of the pages behind: a function, off the page's start.
#define FUNCTION 0x10

.macro address_page_behind at:req, value:req
  // The rest of an instruction that begins in the page before, and RET.
  movl $\value + 2, \at
  movb $0xc3, \at + 4
  movl $AT(3f), %esi
  movl $\at + FUNCTION, %edi
  movl $4f - 3f, %ecx
  rep movsb
  jmp 4f
3:
  movl $\value, %edx
  movl 5f(%rip), %r8d
  ret
5:
  .long \value + 1
4:
.endm

// Runs the code once, at CPL 3, and reports what it says.
.macro address_run space:req, at:req
  movl $\space, %eax
  movq %rax, %cr3
  movl $\at, %r14d
  call 8f
.endm

.macro address_round
  address_run SPACE1, VIEW
  address_run SPACE1, ALIAS
  address_run SPACE2, VIEW
  address_run SPACE2, ALIAS
.endm

guest address_views, 64
  // #BP comes here, with a frame on RSP0's stack.
  movw $AT(9f), IDT + 16 * 3
  movl $AT(2f), %esi
  movl $SHARED, %edi
  movl $7f - 2f, %ecx
  rep movsb
  // MOV of a constant to ESI, whose constant is in the next page.
  movb $0xbe, SHARED + 0xfff
  address_page_behind FIRST, 0x100
  address_page_behind SECOND, 0x200
  address_round
  address_round
  // Another page behind, told by INVLPG, and the old one again, told by a load of CR3.
  movl $SPACE1, %eax
  movq %rax, %cr3
  movl $SECOND + 7, BEHIND
  movl $VIEW + 0x1000, %eax
  invlpg (%rax)
  movl $VIEW, %r14d
  call 8f
  call 8f
  movl $FIRST + 7, BEHIND
  address_round
  // Other bytes in a page behind, and in the shared one: through their physical addresses.
  movl $0x300, FIRST + FUNCTION + 1
  address_round
  movl $0x88, SHARED + (6f - 2f)
  movl $0x302, FIRST
  address_round
  finish

8:
  movq %rsp, %r15
  leaq 0x1000 + FUNCTION(%r14), %rbp
  pushq $USER_DATA
  pushq $USER_STACK
  pushq $2
  pushq $USER_CODE64
  pushq %r14
  iretq

9:
  movq (%rsp), %r12
  movq %r15, %rsp
  emit64
  movq %rbx, %rax
  emit64
  movq %r12, %rax
  emit64
  emit_value %edx
  emit_value %r8d
  emit_value %esi
  emit_value %edi
  emit_value %r9d
  ret

// What is run: it says where it is, in three ways, and what is behind it.
2:
  leaq 0(%rip), %rax
  call 1f
  movl 6f(%rip), %edi
  .byte 0xe8
  .long 0x1000 + FUNCTION - (. + 4 - 2b)
  movl %edx, %r9d
  call *%rbp
  .byte 0xe8
  .long 0xfff - (. + 4 - 2b)
  int3
1:
  movq (%rsp), %rbx
  ret
6:
  .long 0x77
7:
endguest address_views

// An instruction that begins at the end of a page whose next page, linear, is the same one; behind it, accesses that share a check
// which fails: each time, the code says the same of where it is.
guest address_straddling, 64
  movw $AT(9f), IDT + 16 * 3
  // MOV of a constant to ESI, whose constant is the start of the page.
  movb $0xbe, SHARED + 0xfff
  movl $AT(2f), %esi
  movl $SHARED + 4, %edi
  movl $3f - 2f, %ecx
  rep movsb
  movl $3, %ebp
1:
  movq %rsp, %r15
  movl $FIRST + 0xff8, %edi
  pushq $USER_DATA
  pushq $USER_STACK
  pushq $2
  pushq $USER_CODE64
  pushq $VIEW + 0xfff
  iretq
9:
  movq (%rsp), %r12
  movq %r15, %rsp
  movq %rdx, %rax
  emit64
  movq %r12, %rax
  emit64
  decl %ebp
  jnz 1b
  finish
2:
  movq (%rdi), %rax
  movq 8(%rdi), %rcx
  leaq 0(%rip), %rdx
  int3
3:
endguest address_straddling
