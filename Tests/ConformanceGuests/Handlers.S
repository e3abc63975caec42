// Exception and interrupt handlers for guests: they report what the processor put on the stack.
//
// One set for each of the three frame formats. The vector's stub (16 bytes apart, so that the runner can compute its
// address) makes every frame the same shape by pushing a zero where the processor pushes no error code. The report is
//
//     0xfa00 + vector, error code, RIP less EXPECTED, CS, RFLAGS (TF IF DF IOPL NT VM AC), RSP, SS, top of the frame
//     and, for a page fault, CR2
//
// of which real mode has only the first, IP less EXPECTED, CS and FLAGS. Where the handler sends the guest on to another
// place it also ends single-stepping.

#include "guest.h"

#define REPORTED_FLAGS 0x67700

// Non-zero for vectors with which the processor pushes an error code (AMD64 APM vol. 2, table 8-1).
#define HAS_ERROR_CODE \
  ((vector == 8) | ((vector >= 10) & (vector <= 14)) | (vector == 17) | (vector == 21) | (vector == 29) | (vector == 30))

guest handlers_long, 64
  .set vector, 0
  .rept 112
    .balign 16
    .ifeq HAS_ERROR_CODE
    pushq $0
    .endif
    pushq $vector
    jmp 1f
    .set vector, vector + 1
  .endr
1:
  pushq %rax
  pushq %rbx
  movq %rsp, %rbx
  movl 16(%rbx), %eax
  orl $0xfa00, %eax
  emit
  movl 24(%rbx), %eax
  emit
  movq 32(%rbx), %rax
  subq EXPECTED, %rax
  emit64
  movl 40(%rbx), %eax
  emit
  movl 48(%rbx), %eax
  andl $REPORTED_FLAGS, %eax
  emit
  movq 56(%rbx), %rax
  emit64
  movl 64(%rbx), %eax
  emit
  leaq 72(%rbx), %rax
  emit64
  cmpl $14, 16(%rbx)
  jne 2f
  movq %cr2, %rax
  emit64
2:
  movl RESUME, %eax
  cmpl $RETURN, %eax
  je 4f
  ja 3f
  finish 0xee
3:
  movq %rax, 32(%rbx)
  andl $~0x100, 48(%rbx)
  movl $0, RESUME
4:
  popq %rbx
  popq %rax
  addq $16, %rsp
  iretq
endguest handlers_long

// EBP is the frame's address, because it is in SS: virtual-8086 code leaves no other segment.
// Without a change of privilege the processor pushes neither ESP nor SS: reported are those before the frame. The way
// back from there is not IRET but a return and POPF, because that is all that some emulated processors can do.
guest handlers_protected, 32
  .set vector, 0
  .rept 112
    .balign 16
    .ifeq HAS_ERROR_CODE
    pushl $0
    .endif
    pushl $vector
    jmp 1f
    .set vector, vector + 1
  .endr
1:
  pushl %eax
  pushl %ebp
  movl %esp, %ebp
  movl 8(%ebp), %eax
  orl $0xfa00, %eax
  emit
  movl 12(%ebp), %eax
  emit
  movl 16(%ebp), %eax
  subl %ss:EXPECTED, %eax
  emit
  movl 20(%ebp), %eax
  emit
  movl 24(%ebp), %eax
  andl $REPORTED_FLAGS, %eax
  emit
  testb $3, 20(%ebp)
  jnz 5f
  leal 28(%ebp), %eax
  emit
  movl %ss, %eax
  emit
  leal 28(%ebp), %eax
  emit
  jmp 6f
5:
  movl 28(%ebp), %eax
  emit
  movl 32(%ebp), %eax
  andl $0xffff, %eax
  emit
  leal 36(%ebp), %eax
  emit
6:
  cmpl $14, 8(%ebp)
  jne 2f
  movl %cr2, %eax
  emit
2:
  movl %ss:RESUME, %eax
  cmpl $RETURN, %eax
  je 4f
  ja 3f
  finish 0xee
3:
  movl %eax, 16(%ebp)
  andl $~0x100, 24(%ebp)
  movl $0, %ss:RESUME
4:
  popl %ebp
  popl %eax
  addl $8, %esp
  testb $3, 4(%esp)
  jnz 7f
  pushl 8(%esp)
  popfl
  ret $8
7:
  iretl
endguest handlers_protected

guest handlers_real, 16
  .set vector, 0
  .rept 112
    .balign 16
    pushw $vector
    jmp 1f
    .set vector, vector + 1
  .endr
1:
  pushl %eax
  pushw %bx
  movw %sp, %bx
  xorl %eax, %eax
  movw %ss:6(%bx), %ax
  orl $0xfa00, %eax
  emit
  xorl %eax, %eax
  movw %ss:8(%bx), %ax
  subw %cs:EXPECTED, %ax
  emit
  xorl %eax, %eax
  movw %ss:10(%bx), %ax
  emit
  xorl %eax, %eax
  movw %ss:12(%bx), %ax
  andl $REPORTED_FLAGS, %eax
  emit
  movw %cs:RESUME, %ax
  cmpw $RETURN, %ax
  je 4f
  ja 3f
  finish 0xee
3:
  movw %ax, %ss:8(%bx)
  andw $~0x100, %ss:12(%bx)
  movw $0, %cs:RESUME
4:
  popw %bx
  popl %eax
  addw $2, %sp
  iretw
endguest handlers_real
