// Each privileged and each sensitive instruction, in code that finds out what it did.
//
// A row is a name, code to be called in user mode and code to be called in kernel mode. Code gets the page of a
// KnownState in RDI, may use the registers that C functions may, and returns a result in EAX (see instructions.h), if the
// instruction lets it. All of it is position-independent and lies in the pages that user mode may read, so that the
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

// Interrupt flag

  rows "cli", cli
  cli
  pushfq
  pop %rax
  test $IF, %eax
  effect_if z
cli_kernel:
  sti
  nop
  cli
  pushfq
  pop %rax
  test $IF, %eax
  effect_if z

  rows "sti", sti
  sti
  ran
sti_kernel:
  sti
  pushfq
  cli
  pop %rax
  test $IF, %eax
  effect_if nz

  rows "popf", popf
  pushfq
  btrq $9, (%rsp)
  popfq
  pushfq
  pop %rax
  test $IF, %eax
  effect_if z
popf_kernel:
  pushfq
  btsq $9, (%rsp)
  popfq
  pushfq
  cli
  pop %rax
  test $IF, %eax
  effect_if nz

// User mode runs with interrupts on; kernel mode, here, with interrupts off.
  rows "pushf", pushf
  pushfq
  pop %rax
  test $IF, %eax
  own_value_if nz
pushf_kernel:
  cli
  pushfq
  pop %rax
  test $IF, %eax
  own_value_if z

  rows "hlt", hlt, TIMER
  hlt
  ran
hlt_kernel:
  sti
  hlt
  cli
  mov $1, %eax
  ret

// Control and debug registers

  row "mov r, cr0", read_cr0
  mov %cr0, %rax
  movzwl %ax, %eax
  cmp MACHINE_STATUS(%rdi), %rax
  own_value_if e

  rows "mov cr0, r", write_cr0
  mov $0x80050033, %eax
  mov %rax, %cr0
  ran
write_cr0_kernel:
  mov %cr0, %rcx
  mov %rcx, %rdx
  xor $CR0_AM, %rdx
  mov %rdx, %cr0
  mov %cr0, %rax
  mov %rcx, %cr0
  cmp %rdx, %rax
  effect_if e

  row "smsw", smsw
  xor %eax, %eax
  smsw %ax
  cmp MACHINE_STATUS(%rdi), %rax
  own_value_if e

  rows "lmsw", lmsw
  mov $0x33, %eax
  lmsw %ax
  ran
lmsw_kernel:
  mov MACHINE_STATUS(%rdi), %rcx
  mov %ecx, %edx
  xor $CR0_TS, %edx
  lmsw %dx
  mov %cr0, %rax
  lmsw %cx
  cmp %dx, %ax
  effect_if e

  rows "clts", clts
  clts
  ran
clts_kernel:
  mov %cr0, %rcx
  clts
  mov %cr0, %rax
  mov %rcx, %cr0
  test $CR0_TS, %eax
  effect_if z

  rows "mov r, cr2", read_cr2
  mov %cr2, %rax
  ran
read_cr2_kernel:
  mov $0x123456789a, %rcx
  mov %rcx, %cr2
  mov %cr2, %rax
  cmp %rcx, %rax
  own_value_if e

  rows "mov r, cr3", read_cr3
  mov %cr3, %rax
  ran
read_cr3_kernel:
  mov %cr3, %rcx
  mov %rcx, %cr3
  mov %cr3, %rax
  cmp %rcx, %rax
  own_value_if e

  rows "mov cr3, r", write_cr3
  xor %eax, %eax
  mov %rax, %cr3
  ran
write_cr3_kernel:
  mov %cr3, %rcx
  mov %rcx, %rdx
  xor $0x8, %rdx  // write-through for the root: no effect but to be seen
  mov %rdx, %cr3
  mov %cr3, %rax
  mov %rcx, %cr3
  cmp %rdx, %rax
  effect_if e

  row "mov r, cr4", read_cr4
  mov %cr4, %rax
  and $0x620, %eax
  cmp $0x620, %eax
  own_value_if e

  rows "mov cr4, r", write_cr4
  mov $0x620, %eax
  mov %rax, %cr4
  ran
write_cr4_kernel:
  mov %cr4, %rcx
  mov %rcx, %rdx
  xor $CR4_TSD, %rdx
  mov %rdx, %cr4
  mov %cr4, %rax
  mov %rcx, %cr4
  cmp %rdx, %rax
  effect_if e

  rows "mov cr8", cr8
  mov %cr8, %rax
  ran
cr8_kernel:
  mov $5, %ecx
  mov %rcx, %cr8
  mov %cr8, %rax
  xor %edx, %edx
  mov %rdx, %cr8
  cmp %rcx, %rax
  effect_if e

  row "mov r, dr7", read_dr7
  mov %dr7, %rax
  cmp $0x400, %rax
  own_value_if e

  rows "mov dr0, r", write_dr0
  xor %eax, %eax
  mov %rax, %dr0
  ran
write_dr0_kernel:
  mov $0x123456789a, %rcx
  mov %rcx, %dr0
  mov %dr0, %rax
  xor %edx, %edx
  mov %rdx, %dr0
  cmp %rcx, %rax
  effect_if e

// Descriptor tables

  row "sgdt", sgdt
  sgdt OWN(%rdi)
  mov OWN+2(%rdi), %rax
  cmp GDT_BASE(%rdi), %rax
  own_value_if e

  row "sidt", sidt
  sidt OWN(%rdi)
  mov OWN+2(%rdi), %rax
  cmp IDT_BASE(%rdi), %rax
  own_value_if e

  row "sldt", sldt
  mov $-1, %rax
  sldt %eax
  test %eax, %eax
  own_value_if z

  row "str", str
  xor %eax, %eax
  str %ax
  cmp TASK_REGISTER(%rdi), %rax
  own_value_if e

  rows "lgdt", lgdt
  lgdt OWN(%rdi)
  ran
lgdt_kernel:
  sgdt OWN(%rdi)
  subw $8, OWN(%rdi)
  lgdt OWN(%rdi)
  sgdt OWN+16(%rdi)
  addw $8, OWN(%rdi)
  lgdt OWN(%rdi)
  movzwl OWN+16(%rdi), %eax
  add $8, %eax
  cmp GDT_LIMIT(%rdi), %rax
  effect_if e

  rows "lidt", lidt
  lidt OWN(%rdi)
  ran
lidt_kernel:
  sidt OWN(%rdi)
  subw $16, OWN(%rdi)
  lidt OWN(%rdi)
  sidt OWN+16(%rdi)
  addw $16, OWN(%rdi)
  lidt OWN(%rdi)
  movzwl OWN+16(%rdi), %eax
  add $16, %eax
  cmp IDT_LIMIT(%rdi), %rax
  effect_if e

  rows "lldt", lldt
  xor %eax, %eax
  lldt %ax
  ran
lldt_kernel:
  xor %eax, %eax
  lldt %ax
  mov $-1, %rax
  sldt %eax
  test %eax, %eax
  effect_if z

// The processor marks the descriptor busy, and would refuse one that is.
  rows "ltr", ltr
  mov $0x30, %eax
  ltr %ax
  ran
ltr_kernel:
  mov GDT_BASE(%rdi), %rcx
  mov TASK_REGISTER(%rdi), %rax
  movb $0x89, 5(%rcx,%rax)
  ltr %ax
  testb $2, 5(%rcx,%rax)
  effect_if nz

// Segments

  row "mov r, cs", read_cs
  xor %eax, %eax
  mov %cs, %ax
  cmp CODE_SELECTOR(%rdi), %rax
  own_value_if e

  row "mov r, ss", read_ss
  xor %eax, %eax
  mov %ss, %ax
  cmp STACK_SELECTOR(%rdi), %rax
  own_value_if e

  row "mov ds, r", write_ds
  mov STACK_SELECTOR(%rdi), %rcx
  mov %ecx, %ds
  xor %eax, %eax
  mov %ds, %ax
  cmp %rcx, %rax
  effect_if e

  row "mov ss, r", write_ss
  mov STACK_SELECTOR(%rdi), %rcx
  mov %ecx, %ss
  xor %eax, %eax
  mov %ss, %ax
  cmp %rcx, %rax
  effect_if e

  row "ret far", far_return
  pushq CODE_SELECTOR(%rdi)
  lea 1f(%rip), %rax
  push %rax
  lretq
1:
  mov $1, %eax
  ret

  row "jmp far", far_jump
  lea 1f(%rip), %rax
  mov %eax, OWN(%rdi)
  mov CODE_SELECTOR(%rdi), %rax
  mov %ax, OWN+4(%rdi)
  ljmpl *OWN(%rdi)
1:
  mov $1, %eax
  ret

  row "call far", far_call
  lea 1f(%rip), %rax
  mov %eax, OWN(%rdi)
  mov CODE_SELECTOR(%rdi), %rax
  mov %ax, OWN+4(%rdi)
  xor %eax, %eax
  lcalll *OWN(%rdi)
  ret
1:
  mov $1, %eax
  lretl

  row "iret", iret
  mov %rsp, %rcx
  pushq STACK_SELECTOR(%rdi)
  push %rcx
  pushfq
  pushq CODE_SELECTOR(%rdi)
  lea 1f(%rip), %rax
  push %rax
  iretq
1:
  mov $1, %eax
  ret

// Calls into the kernel

  row_data "syscall", syscall_user, 0
syscall_user:
  mov $1, %eax
  syscall
  ud2

// Goes to user code that calls the kernel, which returns as if from native_enter_user.
  rows "sysret", sysret
  sysretq
sysret_kernel:
  call 1f
  mov $1, %eax
  ret
1:
  push %rbx
  push %rbp
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, native_kernel_stack
  mov USER_RETURN(%rdi), %rcx
  mov $2, %r11d
  sysretq

  row "sysexit", sysexit, VARIES
  sysexit

// Model-specific registers and counters

  row "rdmsr", rdmsr
  mov $MSR_EFER, %ecx
  rdmsr
  cmp KNOWN_EFER(%rdi), %eax
  own_value_if e

  rows "wrmsr", wrmsr
  mov $MSR_KERNEL_GS_BASE, %ecx
  xor %eax, %eax
  xor %edx, %edx
  wrmsr
  ran
wrmsr_kernel:
  mov $MSR_KERNEL_GS_BASE, %ecx
  mov $0x12345678, %eax
  mov $0x1234, %edx
  wrmsr
  xor %eax, %eax
  rdmsr
  cmp $0x12345678, %eax
  effect_if e

  rows "swapgs", swapgs
  swapgs
  ran
swapgs_kernel:
  mov $MSR_KERNEL_GS_BASE, %ecx
  mov $0x12345678, %eax
  xor %edx, %edx
  wrmsr
  swapgs
  mov $MSR_GS_BASE, %ecx
  rdmsr
  swapgs
  cmp $0x12345678, %eax
  effect_if e

  row "rdtsc", rdtsc
  rdtsc
  shl $32, %rdx
  lea (%rdx,%rax), %rsi
  rdtsc
  shl $32, %rdx
  add %rdx, %rax
  cmp %rsi, %rax
  effect_if a

  row "rdpmc", rdpmc, KERNEL_VARIES
  xor %ecx, %ecx
  rdpmc
  ran

  row "cpuid", cpuid
  push %rbx
  xor %eax, %eax
  cpuid
  pop %rbx
  ran

// Ports: the serial port's scratch register gives back what was written.

  row "in", in
  mov $SERIAL_SCRATCH, %edx
  in %dx, %al
  ran

  rows "out", out
  mov $SERIAL_SCRATCH, %edx
  out %al, %dx
  ran
out_kernel:
  mov $SERIAL_SCRATCH, %edx
  mov $0x5a, %eax
  out %al, %dx
  xor %eax, %eax
  in %dx, %al
  cmp $0x5a, %al
  effect_if e

  rows "ins", ins
  push %rdi
  add $OWN, %rdi
  mov $SERIAL_SCRATCH, %edx
  insb
  pop %rdi
  ran
ins_kernel:
  mov $SERIAL_SCRATCH, %edx
  mov $0x3c, %eax
  out %al, %dx
  push %rdi
  add $OWN, %rdi
  insb
  pop %rdi
  cmpb $0x3c, OWN(%rdi)
  effect_if e

  rows "outs", outs
  lea OWN(%rdi), %rsi
  mov $SERIAL_SCRATCH, %edx
  outsb
  ran
outs_kernel:
  movb $0xa5, OWN(%rdi)
  lea OWN(%rdi), %rsi
  mov $SERIAL_SCRATCH, %edx
  outsb
  xor %eax, %eax
  in %dx, %al
  cmp $0xa5, %al
  effect_if e

// Memory and caches

  row "invlpg", invlpg
  invlpg (%rdi)
  ran

  row_data "invd", invd_user, 0  // in the kernel it may discard memory
invd_user:
  invd
  ran

  row "wbinvd", wbinvd
  wbinvd
  ran

// Not enabled, not in this mode, or not on every processor

  row "rsm", rsm
  rsm
  ran

  row "rdfsbase", rdfsbase
  rdfsbase %rax
  ran

  row "vmrun", vmrun
  mov %rdi, %rax
  vmrun %rax
  ran

  row "clgi", clgi
  clgi
  ran

  row "rdpid", rdpid, VARIES
  rdpid %rax
  cmp TSC_AUX(%rdi), %eax
  own_value_if e

// Rare in kernels, and so in emulators of kernel code

  row "sysenter", sysenter, VARIES | RARE
  sysenter

// The error code should be 8 * 0x80 + 2; QEMU 7.2 says 16 * 0x80 + 2.
  row "int 0x80", interrupt, USER_VARIES | RARE
  int $0x80
  ran

  row "int3", breakpoint, RARE
  int3
  ran

// 0x20 is user data, 0x28 user code.
  row "verr", verr, RARE
  mov $0x20, %eax
  verr %ax
  own_value_if z

  row "verw", verw, RARE
  mov $0x28, %eax
  verw %ax
  own_value_if nz

  row "lar", lar, RARE
  mov $0x28, %ecx
  xor %eax, %eax
  lar %ecx, %eax
  and $0xf0ff00, %eax
  cmp $0xa0fb00, %eax
  own_value_if e

// The task state's descriptor is the kernel's.
  rows "lsl", lsl, RARE
  mov TASK_REGISTER(%rdi), %rcx
  lsl %ecx, %eax
  own_value_if nz
lsl_kernel:
  mov TASK_REGISTER(%rdi), %rcx
  lsl %ecx, %eax
  cmp $103, %eax
  own_value_if e

  row "invpcid", invpcid, VARIES | RARE
  movq $0, OWN(%rdi)
  mov %rdi, OWN+8(%rdi)
  xor %eax, %eax
  lea OWN(%rdi), %rcx
  invpcid (%rcx), %rax
  ran

  row "rdpkru", rdpkru, RARE
  xor %ecx, %ecx
  .byte 0x0f, 0x01, 0xee
  ran

  row "monitor", monitor, VARIES | RARE
  mov %rdi, %rax
  xor %ecx, %ecx
  xor %edx, %edx
  monitor
  ran

  row "vmxoff", vmxoff, RARE
  vmxoff
  ran

  row "rdtscp", rdtscp, VARIES | RARE
  rdtscp
  cmp TSC_AUX(%rdi), %ecx
  own_value_if e

  rows "stac", stac, KERNEL_VARIES | RARE
  stac
  ran
stac_kernel:
  stac
  pushfq
  pop %rax
  clac
  test $0x40000, %eax
  effect_if nz

// XCR0 is 1 after reset.
  row "xgetbv", xgetbv, VARIES | RARE
  xor %ecx, %ecx
  xgetbv
  cmp $1, %eax
  own_value_if e

  rows "xsetbv", xsetbv, VARIES | RARE
  xor %ecx, %ecx
  xor %edx, %edx
  mov $1, %eax
  xsetbv
  ran
xsetbv_kernel:
  xor %ecx, %ecx
  xor %edx, %edx
  mov $3, %eax
  xsetbv
  xgetbv
  mov %eax, %esi
  mov $1, %eax
  xsetbv
  cmp $3, %esi
  effect_if e

  row "vmcall", vmcall, VARIES | RARE
  push %rbx
  mov $-1, %eax
  vmcall
  pop %rbx
  ran

  row "vmmcall", vmmcall, VARIES | RARE
  push %rbx
  mov $-1, %eax
  vmmcall
  pop %rbx
  ran

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
