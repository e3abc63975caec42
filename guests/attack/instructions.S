// What Swift can't say of an attack on the sandbox: calls with chosen registers, forged signal frames, odd flags.

  .text
  .globl attack_call, attack_interrupt, attack_vsyscall, attack_compatibility, attack_sigreturn, attack_stack
  .globl attack_flags, attack_jump, attack_trap_point, attack_user, attack_spin, attack_invalid
  .globl attack_user_start, attack_user_end

// uint64_t attack_call(number): SYSCALL with arguments that a host's call would like.
attack_call:
  mov %rsp, attack_stack_pointer
  mov %rdi, %rax
  xor %edi, %edi
  mov $4096, %esi
  mov $7, %edx
  mov $0x22, %r10d
  mov $-1, %r8
  xor %r9d, %r9d
  syscall
  ret

attack_interrupt:
  mov %rsp, attack_stack_pointer
  mov %rdi, %rax
  mov $4096, %ecx
  mov $7, %edx
  int $0x80
  ret

// Abandoned calls go on here.
attack_trap_point:
  mov attack_stack_pointer, %rsp
  mov $-1, %rax
  ret

attack_vsyscall:
  mov %rsp, attack_stack_pointer
  mov %rdi, %rax
  call *%rax
  ret

// 32-bit code by the host's selector for it; RDI: 0 for SYSCALL, 1 for SYSENTER, 2 for INT 80h.
attack_compatibility:
  mov %rsp, attack_stack_pointer
  mov %edi, %eax
  sub $16, %rsp
  movl $compatible, (%rsp)
  movl $0x23, 4(%rsp)
  ljmpl *(%rsp)
  .code32
compatible:
  cmp $1, %eax
  mov $20, %eax
  je 1f
  ja 2f
  syscall
  jmp 3f
1:
  sysenter
  jmp 3f
2:
  int $0x80
3:
  ud2
  .code64

// RDI: the address of a SYSCALL with the number 15 before it, RSI: a forged frame.
attack_sigreturn:
  mov %rsi, %rsp
  mov $15, %eax
  jmp *%rdi

attack_spin:
  jmp attack_spin

attack_invalid:
  ud2

// RDI: a stack pointer.
attack_stack:
  mov %rdi, %rsp
  mov $17, %eax
  xor %edi, %edi
  syscall
  ud2

// RDI: flags.
attack_flags:
  push %rbx
  mov $17, %eax
  push %rdi
  xor %edi, %edi
  xor %esi, %esi
  popfq
  syscall
  pushfq
  pop %rbx
  pushq $2
  popfq
  mov %rbx, %rax
  pop %rbx
  ret

// RDI: where, RSI: RAX, RDX: RDI.
attack_jump:
  mov %rsp, attack_stack_pointer
  push %rbx
  push %rbp
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rdi, %rcx
  mov %rsi, %rax
  mov %rdx, %rdi
  mov $attack_jump_back, %r15
  push %r15
  jmp *%rcx
attack_jump_back:
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbp
  pop %rbx
  ret

// RDI: where, RSI: what all registers are to be, but for the stack pointer.
  .globl attack_jump_with, attack_store, attack_store_loop
attack_jump_with:
  push %rbx
  push %rbp
  push %r12
  push %r13
  push %r14
  push %r15
  push $attack_jump_back
  mov %rsp, attack_stack_pointer
  push %rdi
  mov %rsi, %rax
  mov %rax, %rbx
  mov %rax, %rcx
  mov %rax, %rdx
  mov %rax, %rbp
  mov %rax, %rdi
  mov %rax, %r8
  mov %rax, %r9
  mov %rax, %r10
  mov %rax, %r11
  mov %rax, %r12
  mov %rax, %r13
  mov %rax, %r14
  mov %rax, %r15
  ret

attack_store:
  mov %rsp, attack_stack_pointer
  mov %rsi, (%rdi)
  ret

// Even numbers, for ever; a fault is gone over.
attack_store_loop:
  mov %al, (%rdi)
  add $2, %al
  jmp attack_store_loop

// WRPKRU of RDI in kernel mode, and a load, or a store if RSI is not 0; keys that deny nothing before anything else, so that the
// kernel goes on where nothing was denied of it. SYSENTER.
  .globl attack_keys, attack_system_entry
attack_keys:
  mov %rsp, attack_stack_pointer
  mov %edi, %eax
  xor %ecx, %ecx
  xor %edx, %edx
  wrpkru
  mov attack_stack_pointer, %r8
  test %rsi, %rsi
  jz 1f
  mov %r8, attack_stack_pointer
1:
  xor %eax, %eax
  wrpkru
  mov %r8, %rax
  ret

attack_system_entry:
  mov %rsp, attack_stack_pointer
  sysenter
  ud2

// RDI: a selector for ES.
  .globl attack_load_selector
attack_load_selector:
  mov %rsp, attack_stack_pointer
  mov %edi, %es
  xor %eax, %eax
  mov %eax, %es
  ret

  .data
  .balign 8
  .globl attack_stack_pointer
attack_stack_pointer: .quad 0

// User code: SYSCALL with the number in RDI, and back.
  .section .user, "a"
  .balign 4096
  .globl user_program_start, user_program_end
user_program_start:
  mov %rdi, %rax
  xor %edi, %edi
  mov $4096, %esi
  mov $7, %edx
  syscall
  int $4
  ud2
  .balign 64
  mov %rdi, %rax
  int $0x80
  int $4
.macro user_piece name
  .balign 64
  .globl user_\name
user_\name:
.endm

// What user code may try to take its kernel with it (UserAttack.swift): RDI and RSI are chosen.
// SYSCALL, SYSENTER, INT 80h of 32-bit code (RDI: 0, 1, 2) with RSI as its stack pointer.
  user_piece compatibility
  push $0x23
  lea 1f(%rip), %rax
  push %rax
  lretq
  .code32
1:
  mov %esi, %esp
  cmp $1, %edi
  mov $20, %eax
  je 2f
  ja 3f
  syscall
  ud2
2:
  sysenter
  ud2
3:
  int $0x80
  ud2
  .code64
// SYSENTER, with RDI as flags.
  user_piece sysenter
  push %rdi
  popfq
  sysenter
  ud2
// WRPKRU of RDI, then a load, a store and a fetch.
  user_piece keys
  mov %edi, %eax
  xor %ecx, %ecx
  xor %edx, %edx
  wrpkru
  mov (%rsi), %rax
  mov %rax, (%rsi)
  int $4
  ud2
// XRSTOR of the image at RSI, all components.
  user_piece restore
  mov $-1, %eax
  mov $-1, %edx
  xrstor (%rsi)
  int $4
  ud2
// RDI: a SYSCALL with the number of rt_sigreturn, RSI: a forged frame.
  user_piece sigreturn
  mov %rsi, %rsp
  mov $15, %eax
  jmp *%rdi
// For ever.
  user_piece spin
1:
  jmp 1b
// A trap with RSP as RDI says, and RFLAGS as RSI does.
  user_piece trap
  push %rsi
  popfq
  mov %rdi, %rsp
  ud2
// A pending x87 exception that is not masked, then a trap.
  user_piece x87
  fninit
  movw $0x0300, -8(%rsp)
  fldcw -8(%rsp)
  fld1
  fldz
  fdivrp
  int $4
  fwait
  ud2
// A division of vector registers by zero, not masked.
  user_piece simd
  movl $0x1d00, -8(%rsp)
  ldmxcsr -8(%rsp)
  xorps %xmm0, %xmm0
  movaps %xmm0, %xmm1
  int $4
  divps %xmm0, %xmm1
  cmpps $0, %xmm1, %xmm1
  ud2
// AMX: LDTILECFG of zeros, TILEZERO.
  user_piece amx
  .byte 0xc4, 0xe2, 0x78, 0x49, 0x06
  .byte 0xc4, 0xe2, 0x7b, 0x49, 0xc0
  int $4
  ud2
// INCSSPQ of RAX, RDSSPQ.
  user_piece shadow
  xor %eax, %eax
  rdsspq %rax
  incsspq %rax
  int $4
  ud2
// A far return to the selector RDI, and IRETQ with it, by RSI.
  user_piece far
  test %esi, %esi
  jnz 1f
  push %rdi
  push $0
  lretq
1:
  push $0
  push $0
  push $0
  push %rdi
  push $0
  iretq
// FS and GS base of RDI, and a trap; INT1; UMIP's instructions.
  user_piece bases
  wrfsbase %rdi
  wrgsbase %rdi
  ud2
  user_piece int1
  .byte 0xf1
  ud2
  user_piece status
  sgdt -16(%rsp)
  smsw %eax
  str %eax
  int $4
  ud2
// A store to the address RDI of the value RSI, and a trap: the frames are the user's to write.
  user_piece store
  mov %rsi, (%rdi)
  ud2
// A false stop: into the handler, behind where it has told the guest's registers.
  user_piece stop
  mov %rsi, %rbx
  mov %rsi, %r13
  mov $0x4141414141414141, %rax
  jmp *%rdi
  .balign 4096
user_program_end:
