// The same instruction more than once, with other operands, other registers behind it and other tables: an engine that
// remembers how it went before must notice when it does not go like that again.

#include "guest.h"

.macro wrmsr_low number:req, value:req
  movl $\number, %ecx
  movl \value, %eax
  xorl %edx, %edx
  wrmsr
.endm

.macro set_system_calls
  movl $0xc0000081, %ecx
  xorl %eax, %eax
  movl $0x00300008, %edx
  wrmsr
.endm

#define SHOWN 0x40cd5

// SYSCALL and SYSRET with other flags each time. After three rounds the handler sets another target and another mask.
guest repeated_system_call, 64
  set_system_calls
  wrmsr_low 0xc0000082, $AT(2f)
  wrmsr_low 0xc0000084, $0x400
  return_to_user 1f
1:
  xorl %ebx, %ebx
4:
  pushq AT(9f)(, %rbx, 8)
  popfq
  syscall
3:
  pushfq
  popq %rax
  cld
  andl $SHOWN, %eax
  user_emit %rax
  user_emit %rsp
  incl %ebx
  cmpl $7, %ebx
  jb 4b
  user_finish
2:
  pushfq
  popq %rax
  cld
  andl $SHOWN, %eax
  emit
  movq %rcx, %rax
  subq $AT(3b), %rax
  emit64
  movl %r11d, %eax
  andl $SHOWN, %eax
  emit
  movl %cs, %eax
  emit
  movl %ss, %eax
  emit
  cmpl $3, %ebx
  jne 6f
  movq %rcx, %rsi
  wrmsr_low 0xc0000082, $AT(5f)
  wrmsr_low 0xc0000084, $1
  movq %rsi, %rcx
6:
  xorl $0x801, %r11d
  sysretq
5:
  emit_value $0x5555
  jmp 2b
9:
  .quad 2, 3, 0x402, 0x8d7, 0x893, 0x40c3, 0x40003
endguest repeated_system_call

// STAR is looked at each time: another pair of selectors for SYSCALL.
guest repeated_system_call_selectors, 64
  set_system_calls
  wrmsr_low 0xc0000082, $AT(2f)
  wrmsr_low 0xc0000084, $0
  xorl %ebx, %ebx
  return_to_user 1f
1:
  syscall
  incl %ebx
  cmpl $5, %ebx
  jb 1b
  movl %cs, %eax
  user_emit %rax
  user_finish
2:
  movq %rcx, %rsi
  movl %cs, %eax
  emit
  movl %ss, %eax
  emit
  cmpl $2, %ebx
  jne 3f
  // Nothing needs to be there: SYSCALL reads no descriptor.
  movl $0xc0000081, %ecx
  xorl %eax, %eax
  movl $0x00300080, %edx
  wrmsr
3:
  movq %rsi, %rcx
  sysretq
endguest repeated_system_call_selectors

// IRETQ within CPL 0: other flags, the same with a null stack segment, then with a code segment that is not there any more.
guest repeated_interrupt_return, 64
  xorl %ebx, %ebx
1:
  pushq $DATA0
  pushq $STACK - 0x20
  pushq AT(9f)(, %rbx, 8)
  pushq $CODE64
  pushq $AT(2f)
  iretq
2:
  pushfq
  popq %rax
  andl $0x247cd5, %eax
  emit
  movq %rsp, %rax
  emit64
  movl %ss, %eax
  emit
  incl %ebx
  cmpl $6, %ebx
  jb 1b
  // NT makes an IRET in long mode #GP.
  pushq $2
  popfq
  movl $3, %ebx
3:
  pushq $0
  pushq $STACK - 0x20
  pushq $2
  pushq $CODE64
  pushq $AT(4f)
  iretq
4:
  movl %ss, %eax
  emit
  decl %ebx
  jnz 3b
  movl $2, %ebx
5:
  pushq $DATA0
  pushq $STACK - 0x20
  pushq $2
  pushq $CODE64
  pushq $AT(6f)
  cmpl $0, %ebx
  jne 7f
  andb $0x7f, GDT + CODE64 + 5
7:
  iretq
6:
  emit_value %ebx
  decl %ebx
  jns 5b
  finish
9:
  .quad 2, 0x3002, 0x400, 0x8d7, 0x200003, 0x893
endguest repeated_interrupt_return

// Faults at CPL 3, from which the handler returns each time; and once that the stack segment is not there any more.
guest repeated_fault, 64
  return_to_user 1f
1:
  movl $4, %ebx
2:
  arm 3f, 4f
3:
  ud2
4:
  decl %ebx
  jnz 2b
  user_finish
endguest repeated_fault

guest repeated_return_refused, 64
  set_system_calls
  wrmsr_low 0xc0000082, $AT(2f)
  wrmsr_low 0xc0000084, $0
  movl $3, %ebx
1:
  pushq $USER_DATA
  pushq $USER_STACK
  pushq $2
  pushq $USER_CODE64
  pushq $AT(3f)
5:
  iretq
3:
  syscall
2:
  movl $STACK, %esp
  decl %ebx
  jz 4f
  cmpl $1, %ebx
  jne 1b
  andb $0x7f, GDT + USER_DATA - 3 + 5
  arm 5b, 4f
  jmp 1b
4:
  emit_value %ebx
  finish
endguest repeated_return_refused

// POPFQ at CPL 0, at last with TF.
guest repeated_flags, 64
  arm 3f, 4f
  xorl %ebx, %ebx
1:
  pushq AT(9f)(, %rbx, 8)
  popfq
  pushfq
3:
  popq %rax
  andl $0x247cd5, %eax
  emit
  incl %ebx
  jmp 1b
4:
  emit_value %ebx
  finish
9:
  .quad 2, 3, 0x3402, 0x8d7, 0x4002, 0x40003, 0x40002, 0x200002, 0x10c3, 0x102
endguest repeated_flags

// At CPL 3, where IF and IOPL stay.
guest repeated_flags_user, 64
  xorl %ebx, %ebx
1:
  pushq AT(9f)(, %rbx, 8)
  popfq
  pushfq
  popq %rax
  cld
  andl $0x247ed5, %eax
  user_emit %rax
  incl %ebx
  cmpl $9, %ebx
  jb 1b
  user_finish
9:
  .quad 2, 3, 0x3602, 0x8d7, 0x4002, 0x40003, 0x40002, 0x200002, 0x12c3
endguest repeated_flags_user

// STAC and CLAC with SMAP, a fault while AC is set, whose handler's IRETQ brings AC back.
guest repeated_access, 64
  andb $~4, PAGE_LEVEL1 + (0xd000 >> 9)
  andb $~4, PAGE_LEVEL1 + (0xe000 >> 9)
  andb $~4, PAGE_LEVEL1 + (IDT >> 9)
  andb $~4, PAGE_LEVEL1 + (GDT >> 9)
  andb $~4, PAGE_LEVEL1 + (LOAD >> 9)
  movq %cr3, %rax
  movq %rax, %cr3
  movq %cr4, %rax
  orl $0x200000, %eax
  movq %rax, %cr4
  movl $3, %ebx
1:
  stac
  movl %ebx, DATA
  clac
  arm 2f, 3f
2:
  movl DATA, %eax
3:
  stac
  arm 4f, 5f
4:
  ud2
5:
  movl DATA, %eax
  clac
  emit
  decl %ebx
  jnz 1b
  finish
endguest repeated_access

.macro show_string
  movq %rcx, %rax
  emit64
  movl %esi, %eax
  emit
  movl %edi, %eax
  emit
.endm

// REP MOVS and STOS: over pages, of no length, downwards, overlapping, into a page that is not there; twice.
guest repeated_string, 64
  movl $2, %ebx
1:
  // A pattern: each quadword its own address.
  movl $DATA, %eax
2:
  movq %rax, (%rax)
  addl $8, %eax
  cmpl $DATA + 0x4000, %eax
  jb 2b
  movl $DATA + 0xff8, %esi
  movl $DATA + 0x5004, %edi
  movl $0x300, %ecx
  rep movsq
  show_string
  movl DATA + 0x5004 + 0x17f8, %eax
  emit
  movl $0x1234567, %eax
  movl $DATA + 0x5ffd, %edi
  movl $7, %ecx
  rep stosb
  show_string
  movq DATA + 0x5ffc, %rax
  emit64
  xorl %ecx, %ecx
  rep movsl
  rep stosw
  show_string
  // Each byte is the one before: a fill.
  movl $DATA + 0x100, %esi
  leaq 1(%rsi), %rdi
  movl $0x20, %ecx
  rep movsb
  show_string
  movq DATA + 0x118, %rax
  emit64
  std
  movl $DATA + 0x1004, %esi
  movl $DATA + 0x2003, %edi
  movl $0x10, %ecx
  rep movsw
  cld
  show_string
  movsb
  stosq
  show_string
  arm 3f, 4f
  movl $0x800, %ecx
  movl $DATA + 0x1000, %esi
  movl $DATA + 0x7003, %edi
3:
  rep movsl
4:
  show_string
  decl %ebx
  jnz 1b
  finish
endguest repeated_string

// What is read of control registers and selectors is what they are now.
guest repeated_reads, 64
  movl $3, %ebx
1:
  leaq 0x1230(%rbx), %rax
  movq %rax, %cr2
  movq %cr2, %rax
  emit64
  arm 2f, 3f
2:
  movl 0x48000000(%rbx), %eax
3:
  movq %cr2, %rax
  emit64
  movq %cr0, %rax
  xorq $0x10000, %rax
  movq %rax, %cr0
  movq %cr0, %r10
  movl %r10d, %eax
  andl $0x10000, %eax
  emit
  movq %cr4, %rax
  xorq $4, %rax
  movq %rax, %cr4
  movq %cr4, %r15
  movl %r15d, %eax
  andl $4, %eax
  emit
  movw %bx, %ax
  andl $1, %eax
  imull $DATA0, %eax
  movl %eax, %es
  movl %eax, %fs
  movq $-1, %r11
  movw %es, %r11w
  movq %r11, %rax
  emit64
  movq $-1, %rdx
  movl %fs, %edx
  movq %rdx, %rax
  emit64
  decl %ebx
  jnz 1b
  finish
endguest repeated_reads

// WRFSBASE and its like: a base that is not canonical, and CR4 without FSGSBASE, after it has gone well before.
guest repeated_bases, 64
  movq %cr4, %rax
  orl $0x10000, %eax
  movq %rax, %cr4
  xorl %ebx, %ebx
1:
  arm 2f, 3f
  movq AT(9f)(, %rbx, 8), %r10
2:
  wrgsbase %r10
3:
  rdgsbase %r11
  movq %r11, %rax
  emit64
  movq $-1, %rdx
  wrfsbase %ebx
  rdfsbase %edx
  movq %rdx, %rax
  emit64
  incl %ebx
  cmpl $4, %ebx
  jb 1b
  movq %cr4, %rax
  andl $~0x10000, %eax
  movq %rax, %cr4
  arm 2b, 4f
  jmp 2b
4:
  finish
9:
  .quad 0x1000, 0xffff800000000000, 0x800000000000, 0x7fffffffffff
endguest repeated_bases
