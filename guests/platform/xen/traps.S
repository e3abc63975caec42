// Traps of a paravirtual kernel: a stub for each exception, one for upcalls and one for the user's system calls.
//
// The hypervisor pushes rcx, r11, the error code if there is one, and then what a processor would: so taking the first
// two off leaves the frame that platform/TrapFrame.h describes the end of. From user mode it pushes to the stack that
// stack_switch named, which is the frame's own end, as on the native platform. The way back is the hypercall iret.

#define HYPERCALL_IRET 23

  .text
  .balign 16
  .globl xen_trap_stubs
xen_trap_stubs:
  .set vector, 0
  .rept 32
  .balign 32, 0x90
  pop %rcx
  pop %r11
  // These come with an error code: #DF #TS #NP #SS #GP #PF #AC #CP #VC #SX.
  .set pushes_code, (vector == 8) || (vector >= 10 && vector <= 14) || (vector == 17) || (vector == 21)
  .set pushes_code, pushes_code || (vector == 29) || (vector == 30)
  .if pushes_code == 0
  pushq $0
  .endif
  pushq $vector
  jmp save_registers
  .set vector, vector + 1
  .endr

// The only events that are let through are the timer's.
  .balign 32
  .globl xen_event_entry, xen_system_call_entry
xen_event_entry:
  pop %rcx
  pop %r11
  pushq $0
  pushq $0x20
  jmp save_registers

xen_system_call_entry:
  pop %rcx
  pop %r11
  pushq $0
  pushq $0x100
  jmp save_registers

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
  movl $0, 148(%rsp)  // above CS: whether upcalls were masked, which RFLAGS.IF says, too
  testb $3, 144(%rsp)
  jnz leave_user
  mov %rsp, %rdi
  call xen_kernel_trap
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
  pushq $0       // no VGCF flag
  jmp xen_hypercall_page + 32 * HYPERCALL_IRET

  .globl xen_enter_user
xen_enter_user:
  push %rbx
  push %rbp
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, platform_kernel_stack
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

// Where other processors begin: number in RDI, function in RBX, a stack.
  .globl xen_processor_entry
xen_processor_entry:
  cld
  push %rdi
  call *%rbx
  pop %rdi
1:
  mov %edi, %esi
  mov $2, %edi  // VCPUOP_down
  xor %edx, %edx
  call xen_hypercall_page + 32 * 24
  jmp 1b

  .bss
  .balign 8
  .globl platform_kernel_stack
platform_kernel_stack: .quad 0

  .section .bss.processors, "aw", @nobits
  .balign 4096
  .globl xen_processor_stacks, xen_processor_context
xen_processor_stacks:
  .fill 4096 * 31, 1, 0
xen_processor_context:
  .fill 8192, 1, 0
