// Traps: 256 stubs of 16 bytes each, one table that points at them, and the two ways between kernel and user mode.
//
// From the kernel, a trap pushes a frame on the current stack, calls Swift, and goes on with what the frame then says.
//
// User code is called like a function: native_enter_user(frame) loads all registers from the frame and returns when the
// user code traps, with all registers in the frame again. The stack that the processor changes to (RSP0 in the task
// state) is the frame's own end, so that what it pushes is already where it belongs.

  .section .native.stubs, "ax"
  .balign 16
  .globl native_trap_stubs
native_trap_stubs:
  .set vector, 0
  .rept 256
  .balign 16, 0x90
  // These push an error code by themselves: #DF #TS #NP #SS #GP #PF #AC #CP #VC #SX.
  .set pushes_code, (vector == 8) || (vector >= 10 && vector <= 14) || (vector == 17) || (vector == 21)
  .set pushes_code, pushes_code || (vector == 29) || (vector == 30)
  .if pushes_code == 0
  pushq $0
  .endif
  pushq $vector
  jmp save_registers
  .set vector, vector + 1
  .endr

  .text
save_registers:
  push %rax
  push %rbx
  push %rcx
  push %rdx
  push %rsi
  push %rdi
  push %rbp
  push %r8
  push %r9
  push %r10
  push %r11
  push %r12
  push %r13
  push %r14
  push %r15
  cld
  testb $3, 144(%rsp)  // CS of what was interrupted
  jnz leave_user
  mov %rsp, %rdi
  call native_kernel_trap
restore_registers:
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %r11
  pop %r10
  pop %r9
  pop %r8
  pop %rbp
  pop %rdi
  pop %rsi
  pop %rdx
  pop %rcx
  pop %rbx
  pop %rax
  add $16, %rsp  // vector and error code
  iretq

  .globl native_enter_user
native_enter_user:
  push %rbx
  push %rbp
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, platform_kernel_stack
  lea 176(%rdi), %rax
  mov %rax, native_tss + 4
  mov %rdi, %rsp
  jmp restore_registers

leave_user:
  mov platform_kernel_stack, %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbp
  pop %rbx
  ret

// SYSCALL changes neither stack nor frame, so this does by hand what the processor does for a trap. One user context
// runs at a time, on the first processor: fixed addresses serve instead of GS.
  .globl native_system_call_entry
native_system_call_entry:
  mov %rsp, user_stack
  mov native_tss + 4, %rsp
  pushq $0x23
  pushq user_stack
  push %r11
  pushq $0x2b
  push %rcx
  pushq $0
  pushq $0x100
  jmp save_registers

  .data
  .balign 16
  .globl native_idt
native_idt:
  .set vector, 0
  .rept 256
  .word native_stubs_low + 16 * vector
  .word 0x08
  .byte 0
  .if (vector == 3) || (vector == 4)
  .byte 0xee  // user mode may raise these by instruction
  .else
  .byte 0x8e
  .endif
  .word native_stubs_high
  .quad 0
  .set vector, vector + 1
  .endr

  .bss
  .balign 8
  .globl platform_kernel_stack
platform_kernel_stack: .quad 0
user_stack: .quad 0
