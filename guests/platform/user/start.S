// A user program begins here, with its argument in RDI, its way of system calls in RSI (0: INT 4, 1: SYSCALL) and a
// stack. The floating-point units are set to their defaults in user mode, because that is where they are used: the
// kernel never touches them.

  .section .text.start, "ax"
  .globl user_start
user_start:
  mov %esi, by_instruction(%rip)
  fninit
  ldmxcsr default_mxcsr(%rip)
  call user_main
  ud2  // a program ends by a system call

  .text
  .globl user_system_call
user_system_call:
  mov %rdx, %rax
  cmpl $0, by_instruction(%rip)
  jne 1f
  int $4
  ret
1:
  syscall  // RCX and R11 are its own
  ret

  .section .rodata
  .balign 4
default_mxcsr:
  .long 0x1f80

  .bss
  .balign 4
by_instruction:
  .long 0
