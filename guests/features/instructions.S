// One instruction of every processor feature that has some, in code that finds out whether it did what it should.
//
// A row is a name, where CPUID announces it, and code to be called in user or in kernel mode. Code gets a page in RDI of
// which it may use the part from OWN on, may use the registers that C functions may, and all vector and x87 registers;
// it returns a result in EAX (features.h). All of it is position-independent and lies in the pages that user mode may read.

#define OWN 512

// Registers of CPUID.
#define EAX 0
#define EBX 1
#define ECX 2
#define EDX 3

// A processor without the feature may run the instruction as another one, or as none.
#define MEANS_ANOTHER 1
// Runs only in kernel mode.
#define KERNEL 2
// Needs the components of XCR0 that AVX has.
#define AVX 4
// Needs XCR0 and CR4.OSXSAVE.
#define XSAVE 8
// Without the feature, it is executed only by request.
#define POP 16

  .macro row name, function, index, register, bit, flags=0
  .section .rodata.names, "a"
9:
  .asciz "\name"
  .section .rodata.rows, "a"
  .quad 9b, 8f
  .long \function, \index, \register, \bit, \flags, 0
  .section .user, "a"
8:
  .endm

// Results: 1 right, 0 wrong.
  .macro right_if condition
  set\condition %al
  movzbl %al, %eax
  ret
  .endm

  .macro ran
  mov $1, %eax
  ret
  .endm

// EAX is right if it is \value.
  .macro expect value
  cmp $\value, %eax
  right_if e
  .endm

  .section .rodata.rows, "a"
  .balign 8
  .globl feature_rows
feature_rows:

  .section .user, "a"
  .balign 4096
  .globl user_program_start, user_program_end
user_program_start:

  .globl features_return
features_return:
  int $4
  ud2

#include "baseline.inc"
#include "levels.inc"
#include "others.inc"

  .balign 4096
user_program_end:

  .section .rodata.rows, "a"
  .globl feature_rows_end
feature_rows_end:

  .text
  .globl feature_attempt, feature_trap_point
feature_attempt:
  push %rbx
  push %rbp
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rdi, %rax
  mov %rsi, %rdi
  mov %rsp, feature_stack
  call *%rax
feature_attempt_end:
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbp
  pop %rbx
  ret
feature_trap_point:
  mov $0x100, %eax
  jmp feature_attempt_end

// The system decides about these: CR4.OSFXSR, OSXMMEXCPT; OSXSAVE if EDI has bit 0; FSGSBASE if bit 1. With bit 0, XCR0 is ESI.
  .globl features_enable
features_enable:
  mov %cr4, %rax
  or $0x600, %eax
  test $1, %edi
  jz 1f
  or $0x40000, %eax
1:
  test $2, %edi
  jz 2f
  or $0x10000, %eax
2:
  mov %rax, %cr4
  test $1, %edi
  jz 3f
  mov %esi, %eax
  xor %ecx, %ecx
  xor %edx, %edx
  xsetbv
3:
  ret

  .bss
  .balign 8
  .globl feature_stack
feature_stack: .quad 0
