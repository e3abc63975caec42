// Into the code that is to be run, and back from the handler that saw its exception.

#define FLAGS 128
#define RIP 136
#define FS_BASE 144
#define GS_BASE 152
#define EXTENDED 192

  .text
  .globl cnr_enter
  .type cnr_enter, @function
cnr_enter:
  push %rbx
  push %rbp
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, cnr_host_rsp(%rip)
  rdfsbase %rax
  mov %rax, cnr_host_fs(%rip)
  rdgsbase %rax
  mov %rax, cnr_host_gs(%rip)
  mov $7, %eax
  xor %edx, %edx
  xrstor64 EXTENDED(%rdi)
  mov RIP(%rdi), %rax
  mov %rax, cnr_target(%rip)
  movl $1, cnr_active(%rip)
  mov FS_BASE(%rdi), %rax
  wrfsbase %rax
  mov GS_BASE(%rdi), %rax
  wrgsbase %rax
  push FLAGS(%rdi)
  popfq
  mov 0(%rdi), %rax
  mov 8(%rdi), %rcx
  mov 16(%rdi), %rdx
  mov 24(%rdi), %rbx
  mov 32(%rdi), %rsp
  mov 40(%rdi), %rbp
  mov 48(%rdi), %rsi
  mov 64(%rdi), %r8
  mov 72(%rdi), %r9
  mov 80(%rdi), %r10
  mov 88(%rdi), %r11
  mov 96(%rdi), %r12
  mov 104(%rdi), %r13
  mov 112(%rdi), %r14
  mov 120(%rdi), %r15
  mov 56(%rdi), %rdi
  jmp *cnr_target(%rip)
  .size cnr_enter, . - cnr_enter

// The handler continues the thread here, on the host's stack with harmless flags.
  .globl cnr_leave
  .type cnr_leave, @function
cnr_leave:
  fninit
  ldmxcsr cnr_usual_mxcsr(%rip)
  vzeroupper
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbp
  pop %rbx
  ret
  .size cnr_leave, . - cnr_leave

// A signal's delivery leaves the alignment flag as it was, and C does not align everything.
  .globl cnr_signal_entry
  .type cnr_signal_entry, @function
cnr_signal_entry:
  pushfq
  andq $~0x40000, (%rsp)
  popfq
  jmp cnr_handle
  .size cnr_signal_entry, . - cnr_signal_entry

  .section .rodata
  .align 4
cnr_usual_mxcsr:
  .long 0x1f80
  .section .note.GNU-stack, "", @progbits
