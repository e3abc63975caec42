// Instructions that trap, callable in user and in kernel mode, and the kernel's way out of a trap. All of it but the last
// part is position-independent and lies in the pages that user mode may read. RDI: a page of memory.

  .macro row name, label
  .section .rodata.names, "a"
9:
  .asciz "\name"
  .section .rodata.rows, "a"
  .quad 9b, \label
  .section .user, "a"
\label:
  .endm

  .section .rodata.rows, "a"
  .balign 8
  .globl abi_rows, abi_rows_end
abi_rows:

  .section .user, "a"
  .balign 4096
  .globl user_program_start, user_program_end, abi_return, abi_system_call
user_program_start:
abi_return:
  int $4
  ud2

// A system call whose registers can be told from all others.
abi_system_call:
  mov $0x1111, %ecx
  mov $0x2222, %r11d
  mov $0x77, %eax
  syscall
abi_after_system_call:
  mov %rcx, %rsi
  mov %r11, %rdx
  int $4
  ud2

  row "divide by zero", divide
  xor %ecx, %ecx
  xor %edx, %edx
  div %ecx
  ret

  row "divide overflow", overflow
  mov $-1, %edx
  mov $1, %ecx
  div %ecx
  ret

  row "single step", step
  pushfq
  orl $0x100, (%rsp)
  popfq
  nop
  ret

  row "int1", icebp
  .byte 0xf1
  ret

  row "int3", breakpoint
  int3
  ret

  row "int 3", breakpoint2
  .byte 0xcd, 3
  ret

  row "ud2", invalid
  ud2
  ret

  row "ud0", invalid0
  .byte 0x0f, 0xff, 0xc0
  ret

  row "hlt", halt
  hlt
  ret

  row "lgdt", load_gdt
  lgdt (%rdi)
  ret

  row "in", input
  in $0x60, %al
  ret

  row "int 0x21", interrupt
  int $0x21
  ret

  row "int 0x82", interrupt82
  int $0x82
  ret

  row "int 0x90 with a gate", gate
  int $0x90
  ret

  row "non-canonical load", canonical
  mov $1, %rax
  shl $63, %rax
  mov (%rax), %al
  ret

  row "non-canonical load by RBP", stack_fault
  push %rbp
  mov $1, %rbp
  shl $63, %rbp
  mov (%rbp), %al
  pop %rbp
  ret

  row "selector out of limits", selector
  mov $0xfffb, %eax
  mov %eax, %ds
  ret

  row "load from nowhere", load
  mov 0x7ffff000, %al
  ret

  row "store to nowhere", store
  mov %al, 0x7ffff008
  ret

  row "jump to nowhere", jump
  mov $0x7ffff010, %eax
  jmp *%rax

  row "store to code", store_code
  lea store_code(%rip), %rax
  mov %al, (%rax)
  ret

  row "x87 division by zero", x87
  fninit
  push $0x33b
  fldcw (%rsp)
  pop %rax
  fld1
  fldz
  fdivrp
  fwait
  ret

  row "SSE division by zero", sse
  pushq $0x1d80
  ldmxcsr (%rsp)
  pop %rax
  pxor %xmm1, %xmm1
  mov $1, %eax
  cvtsi2ss %eax, %xmm0
  divss %xmm1, %xmm0
  ret

  row "popf without IF", pop_flags
  pushfq
  andl $~0x200, (%rsp)
  popfq
  pushfq
  pop %rax
  and $0x3200, %eax
  ret

  row "popf with IOPL", pop_privilege
  pushfq
  orl $0x3000, (%rsp)
  popfq
  pushfq
  pop %rax
  and $0x3200, %eax
  ret

  row "cli", clear_interrupts
  cli
  xor %eax, %eax
  ret

  row "sti", set_interrupts
  sti
  xor %eax, %eax
  ret

  .section .user, "a"
  .balign 4096
user_program_end:

  .section .rodata.rows, "a"
abi_rows_end:

  .text
  .globl abi_attempt, abi_trap_point
abi_attempt:
  push %rbx
  push %rbp
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rdi, %rax
  mov %rsi, %rdi
  mov %rsp, abi_stack
  call *%rax
abi_end:
  fninit
  ldmxcsr abi_mxcsr
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbp
  pop %rbx
  ret
abi_trap_point:
  mov $-1, %rax
  jmp abi_end

// A trap taken raw: what lies on the stack goes to a buffer, then back. Seven words, and the mask that the processor has.
  .globl abi_raw_entry, abi_raw_call
abi_raw_entry:
  push %rax
  push %rcx
  push %rsi
  push %rdi
  cld  // a trap leaves the direction as it is
  lea 32(%rsp), %rsi
  mov $abi_raw_words, %edi
  mov $7, %ecx
  rep movsq
  movzbl xen_shared_page + 1, %eax
  mov %rax, (%rdi)
  pop %rdi
  pop %rsi
  pop %rcx
  pop %rax
  mov (%rsp), %rcx
  mov 8(%rsp), %r11
  add $16, %rsp
  movl $0, 12(%rsp)
  pushq $0
  jmp xen_hypercall_page + 32 * 23

// INT3 with registers that can be recognized; the flags after it in RAX.
abi_raw_call:
  mov $0x3333, %ecx
  mov $0x4444, %r11d
  std
  int3
  pushfq
  pop %rax
  cld
  ret

  .globl abi_store, abi_load_fs, abi_hypervisor_name
abi_store:
  movq $0, (%rdi)
  ret

// A selector.
abi_load_fs:
  mov %edi, %fs
  ret

abi_hypervisor_name:
  push %rbx
  mov $0x40000000, %eax
  xor %ecx, %ecx
  ud2
  .ascii "xen"
  cpuid
  mov %ebx, %eax
  pop %rbx
  ret

  .data
  .balign 8
  .globl abi_stack, abi_raw_words
abi_mxcsr: .quad 0x1f80
abi_stack: .quad 0
abi_raw_words: .fill 8, 8, 0
