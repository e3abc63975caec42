// A Linux program begins here, with its arguments on the stack; and what it needs beyond its own code.

  .section .text.start, "ax"
  .globl linux_start
linux_start:
  xor %ebp, %ebp
  and $-16, %rsp
  call linux_main
  ud2  // it ends by a system call

  .text
  .globl linux_system_call
linux_system_call:  // number, then five arguments (System V AMD64 ABI, A.2.1)
  mov %rdi, %rax
  mov %rsi, %rdi
  mov %rdx, %rsi
  mov %rcx, %rdx
  mov %r8, %r10
  mov %r9, %r8
  syscall
  ret

  .globl strlen
strlen:  // what compilers make of a loop that looks for a zero
  mov %rdi, %rax
1:
  cmpb $0, (%rax)
  je 2f
  inc %rax
  jmp 1b
2:
  sub %rdi, %rax
  ret

.macro buffer name, size
  .globl \name
\name:
  .skip \size
.endm

  .bss
  .balign 16
  buffer linux_order_buffer, 0x81000  // the capacities of linux.h
  buffer linux_pointer_buffer, 0x20000
  buffer linux_receive_buffer, 0x4000
  buffer linux_transmit_buffer, 0x4000
  buffer linux_input_buffers, 0x80000
  buffer linux_poll_buffer, 0x400
  buffer linux_scratch_buffer, 0x2000
  buffer linux_text_buffers, 0x3000

  .section .note.GNU-stack, "", @progbits
