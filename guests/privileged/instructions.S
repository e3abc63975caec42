// Each privileged and each sensitive instruction, in code that finds out what it did.
//
// A row is a name, code to be called in user mode and code to be called in kernel mode. Code gets the page of a
// KnownState in RDI, may use the registers that C functions may, and returns a result in EAX (see instructions.h), if
// the instruction lets it. All of it is position-independent and lies in the pages that user mode may read, so that the
// kernel runs the very bytes that the user runs.

#define GDT_BASE 0
#define GDT_LIMIT 8
#define IDT_BASE 16
#define IDT_LIMIT 24
#define TASK_REGISTER 32
#define MACHINE_STATUS 40
#define KNOWN_EFER 48
#define TSC_AUX 56
#define CODE_SELECTOR 64
#define STACK_SELECTOR 72
#define USER_RETURN 80
#define OWN 256

#define USER_VARIES 1
#define KERNEL_VARIES 2
#define VARIES 3
#define TIMER 4
#define RARE 8

#define IF 0x200
#define CR0_TS 0x8
#define CR0_AM 0x40000
#define CR4_TSD 0x4
#define MSR_EFER 0xc0000080
#define MSR_GS_BASE 0xc0000101
#define MSR_KERNEL_GS_BASE 0xc0000102
#define SERIAL_SCRATCH 0x3ff

// Opens a row; the code for a mode follows its label. `row` is for the same code in both modes.
  .macro row_data name, user, kernel, flags=0
  .section .rodata.names, "a"
9:
  .asciz "\name"
  .section .rodata.rows, "a"
  .quad 9b, \user, \kernel, \flags
  .section .user, "a"
  .endm

  .macro row name, label, flags=0
  row_data "\name", \label, \label, \flags
\label:
  .endm

  .macro rows name, label, flags=0
  row_data "\name", \label\()_user, \label\()_kernel, \flags
\label\()_user:
  .endm

// Results by the condition that a comparison left.
  .macro effect_if condition
  set\condition %al
  movzbl %al, %eax
  ret
  .endm

  .macro own_value_if condition
  mov $2, %ecx
  mov $3, %eax
  cmov\condition %ecx, %eax
  ret
  .endm

  .macro ran
  mov $4, %eax
  ret
  .endm

  .section .rodata.rows, "a"
  .balign 8
  .globl instruction_rows
instruction_rows:

  .section .user, "a"
  .balign 4096
  .globl user_program_start, user_program_end
user_program_start:

  .globl instructions_return
instructions_return:
  int $4
  ud2

#include "state.inc"
#include "services.inc"
#include "rare.inc"

  .balign 4096
user_program_end:

  .section .rodata.rows, "a"
  .globl instruction_rows_end
instruction_rows_end:

  .text
  .globl attempt, attempt_trap_point
attempt:
  push %rbx
  push %rbp
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rdi, %rax
  mov %rsi, %rdi
  mov %rsp, attempt_stack
  mov STACK_SELECTOR(%rdi), %rcx
  mov %ecx, %ss  // null where the kernel was entered from user mode
  call *%rax
attempt_end:
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbp
  pop %rbx
  ret
attempt_trap_point:
  mov $0x100, %eax
  jmp attempt_end

  .bss
  .balign 8
  .globl attempt_stack
attempt_stack: .quad 0
