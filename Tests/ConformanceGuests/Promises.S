// What CPUID's bits promise: that control bits can be set, that registers are there. And what is there without a bit.

#include "guest.h"

#define END 0xffffffff
#define EAX 0
#define EBX 1
#define ECX 2
#define EDX 3

// Sets CF if the feature that the table's row at RSI begins with is announced; a row with END ends at `end`. Changes EAX, EBX,
// ECX, EDX and EDI.
.macro look_up end:req
  movl (%rsi), %eax
  cmpl $END, %eax
  je \end
  xorl %ecx, %ecx
  cpuid
  movl %eax, DATA
  movl %ebx, DATA + 4
  movl %ecx, DATA + 8
  movl %edx, DATA + 12
  movl 4(%rsi), %edi
  movl DATA(, %rdi, 4), %eax
  movl 8(%rsi), %ecx
  btl %ecx, %eax
.endm

// CR4: each bit can be set that a feature brings.
guest promises_control, 64
  xorl %r12d, %r12d
  movq %cr4, %r8
  movl $AT(9f), %esi
1:
  look_up 3f
  jnc 2f
  movl 12(%rsi), %ecx
  movq %r8, %rax
  btsq %rcx, %rax
  movq %rax, %cr4
  movq %cr4, %rax
  btq %rcx, %rax
  cmc
  adcl $0, %r12d
  movq %r8, %cr4
2:
  addl $16, %esi
  jmp 1b
3:
  movl %r12d, %eax
  emit
  finish
  .balign 4
9:
  // VME, PVI, TSD, DE, PSE, MCE, PGE; PCE, which comes without a bit; OSFXSR, OSXMMEXCPT, PCIDE, OSXSAVE, FSGSBASE, UMIP, PKE.
  .long 1, EDX, 1, 0
  .long 1, EDX, 1, 1
  .long 1, EDX, 4, 2
  .long 1, EDX, 2, 3
  .long 1, EDX, 3, 4
  .long 1, EDX, 7, 6
  .long 1, EDX, 13, 7
  .long 1, EDX, 0, 8
  .long 1, EDX, 24, 9
  .long 1, EDX, 25, 10
  .long 1, ECX, 17, 17
  .long 1, ECX, 26, 18
  .long 7, EBX, 0, 16
  .long 7, ECX, 2, 11
  .long 7, ECX, 3, 22
  .long END
endguest promises_control

// Model-specific registers: each can be read that a feature brings, and written with what it holds.
guest promises_registers, 64
  movl $AT(9f), %esi
1:
  look_up 5f
  jnc 4f
  movl 12(%rsi), %ecx
  movl 16(%rsi), %r8d
2:
  rdmsr
  cmpl $0, 20(%rsi)
  je 3f
  wrmsr
3:
  incl %ecx
  decl %r8d
  jnz 2b
4:
  addl $24, %esi
  jmp 1b
5:
  emit_value $1
  finish
  .balign 4
9:
  // MTRRs: the capability, eight variable ranges, the fixed ranges, the default.
  .long 1, EDX, 12, 0xfe, 1, 0
  .long 1, EDX, 12, 0x200, 16, 1
  .long 1, EDX, 12, 0x250, 1, 1
  .long 1, EDX, 12, 0x258, 2, 1
  .long 1, EDX, 12, 0x268, 8, 1
  .long 1, EDX, 12, 0x2ff, 1, 1
  // PAT; SYSENTER; MCG_CAP and MCG_STATUS; the time stamp counter; the APIC's base; the deadline.
  .long 1, EDX, 16, 0x277, 1, 1
  .long 1, EDX, 11, 0x174, 3, 1
  .long 1, EDX, 14, 0x179, 1, 0
  .long 1, EDX, 14, 0x17a, 1, 1
  .long 1, EDX, 4, 0x10, 1, 0
  .long 1, EDX, 9, 0x1b, 1, 1
  .long 1, ECX, 24, 0x6e0, 1, 1
  // The counter's adjustment.
  .long 7, EBX, 1, 0x3b, 1, 1
  // EFER; STAR, LSTAR, CSTAR, SFMASK; the bases of FS and GS; TSC_AUX.
  .long 0x80000001, EDX, 20, 0xc0000080, 1, 1
  .long 0x80000001, EDX, 11, 0xc0000081, 4, 1
  .long 0x80000001, EDX, 29, 0xc0000100, 3, 1
  .long 0x80000001, EDX, 27, 0xc0000103, 1, 1
  .long END
endguest promises_registers

// Machine checks: CR4.MCE; between one and 32 banks, with no error in any; a status can be cleared and not made up.
guest promises_machine_check, 64
  movq %cr4, %rax
  orl $0x40, %eax
  movq %rax, %cr4
  movq %cr4, %rax
  andl $0x40, %eax
  emit
  movl $0x17a, %ecx
  rdmsr
  emit64
  movl $0x179, %ecx
  rdmsr
  movzbl %al, %r8d
  leal -1(%r8), %eax
  cmpl $32, %eax
  setb %al
  movzbl %al, %eax
  emit
  xorl %r12d, %r12d
  movl $0x400, %ecx
1:
  // CTL: all errors. STATUS. ADDR and MISC.
  movl $-1, %eax
  movl $-1, %edx
  wrmsr
  incl %ecx
  rdmsr
  orl %eax, %r12d
  orl %edx, %r12d
  xorl %eax, %eax
  xorl %edx, %edx
  wrmsr
  incl %ecx
  rdmsr
  incl %ecx
  rdmsr
  incl %ecx
  decl %r8d
  jnz 1b
  movl %r12d, %eax
  emit
  movl $0x401, %ecx
  movl $1, %eax
  xorl %edx, %edx
  arm 2f, 3f
2:
  wrmsr
3:
  finish
endguest promises_machine_check

// The performance counters of the K7, which all of AMD's processors have. Nothing that is written is more than 0, so that nothing
// counts.
guest promises_counters, 64
  xorl %r12d, %r12d
  movl $0xc0010000, %ecx
1:
  rdmsr
  orl %eax, %r12d
  orl %edx, %r12d
  xorl %eax, %eax
  xorl %edx, %edx
  wrmsr
  incl %ecx
  cmpl $0xc0010008, %ecx
  jne 1b
  movl %r12d, %eax
  emit
  finish
endguest promises_counters

// RDPMC agrees with them: at CPL 0 always, elsewhere with CR4.PCE.
guest promises_counters_read, 64
  xorl %r12d, %r12d
  xorl %ecx, %ecx
1:
  rdpmc
  orl %eax, %r12d
  orl %edx, %r12d
  incl %ecx
  cmpl $4, %ecx
  jne 1b
  user_emit %r12
  user_finish
endguest promises_counters_read

// Registers that kernels of every kind touch on AMD's processors: SYSCFG, HWCR, the north bridge's configuration, the pending
// interrupt message, the base of configuration space in memory, DE_CFG; PATCH_LOADER takes an address.
guest promises_family, 64
  movl $AT(9f), %esi
1:
  movl (%rsi), %ecx
  cmpl $END, %ecx
  je 2f
  rdmsr
  addl $4, %esi
  jmp 1b
2:
  emit_value $1
  finish
  .balign 4
9:
  .long 0xc0010010, 0xc0010015, 0xc001001f, 0xc0010055, 0xc0010058, 0xc0011022, 0xc0011029, END
endguest promises_family

// LS_CFG, by which family 17h stops loads from passing stores, is not there: no hypervisor would heed it.
guest promises_store_bypass, 64
  movl $0xc0011020, %ecx
  arm 1f, 2f
1:
  rdmsr
2:
  movl $0x400, %eax
  xorl %edx, %edx
  arm 3f, 4f
3:
  wrmsr
4:
  finish
endguest promises_store_bypass

// KVM's signature promises VMMCALL and VMCALL: -KVM_ENOSYS for a call that is not there, 0 for the one that only lets interrupts be
// looked at.
.macro call_unknown instruction:req
  movl $0x7ffffff0, %eax
  \instruction
.endm

guest promises_hypercalls, 64
  call_unknown vmmcall
  user_emit %rax
  movl $1, %eax
  vmmcall
  user_emit %rax
  // KVM_HC_CLOCK_PAIRING of a clock that is none.
  movl $9, %eax
  movl $DATA, %ebx
  movl $77, %ecx
  vmmcall
  user_emit %rax
  // That of another vendor's processors: KVM takes it for privileged.
  arm 1f, 2f
  movl $0x7ffffff0, %eax
1:
  vmcall
  user_emit %rax
2:
  user_finish
endguest promises_hypercalls

guest promises_hypercalls_32, 32
  call_unknown vmmcall
  emit
  call_unknown vmcall
  emit
  finish
endguest promises_hypercalls_32

// TSC_ADJUST: what is written to it, and to the counter, is added to both.
guest promises_adjust, 64
  movl $7, %eax
  xorl %ecx, %ecx
  cpuid
  btl $1, %ebx
  jc 1f
  movl $3, %eax
  jmp 9f
1:
  movl $0x3b, %ecx
  rdmsr
  movl %eax, %r8d
  orl %edx, %r8d
  rdtsc
  movl %edx, %r9d
  // 2^40.
  movl $0x3b, %ecx
  xorl %eax, %eax
  movl $0x100, %edx
  wrmsr
  rdtsc
  subl %r9d, %edx
  // The upper half has grown by 2^8, or one more if the lower one has overflowed.
  subl $0x100, %edx
  cmpl $1, %edx
  seta %al
  movzbl %al, %r10d
  // The counter is set 2^40 back.
  movl $0x10, %ecx
  rdtsc
  subl $0x100, %edx
  wrmsr
  movl $0x3b, %ecx
  rdmsr
  // Close to 0 again: no more than the time between.
  addl $0x10000000, %eax
  adcl $0, %edx
  movl %edx, %eax
  orl %r10d, %eax
  orl %r8d, %eax
  jnz 8f
  movl $3, %eax
  jmp 9f
8:
  movl $4, %eax
9:
  emit
  finish
endguest promises_adjust

// Does what follows only where the bit of CPUID function 7 is set, else reports the values and ends.
.macro unless_announced register:req, bit:req, values:vararg
  movl $7, %eax
  xorl %ecx, %ecx
  cpuid
  btl $\bit, \register
  jc 90f
  .irp value, \values
  emit_value $\value
  .endr
  finish
90:
.endm

// INVPCID: the mapping of a page changes, and is seen after each kind of it.
guest promises_invpcid, 64
  unless_announced %ebx, 10, 1, 2, 3, 4, 5
  movl $1, DATA
  movl $2, DATA + 0x1000
  movl $3, DATA + 0x2000
  movl $4, DATA + 0x3000
  movl $5, DATA + 0x4000
  movl $PAGE_LEVEL1 + 8 * (DATA / 4096), %edi
  movq $0, DATA + 0x5000
  movq $DATA, DATA + 0x5008
  movq (%rdi), %r8
  xorl %ebx, %ebx
  emit_value DATA
1:
  addq $0x1000, %r8
  movq %r8, (%rdi)
  invpcid DATA + 0x5000, %rbx
  emit_value DATA
  incl %ebx
  cmpl $4, %ebx
  jb 1b
  finish
endguest promises_invpcid

// What it can't be asked: another kind, reserved bits, an address that is not canonical, a context without CR4.PCIDE.
guest promises_invpcid_refused, 64
  movl $7, %eax
  xorl %ecx, %ecx
  cpuid
  btl $10, %ebx
  jc 1f
  finish
1:
  movq $0, DATA
  movq $0, DATA + 8
  movl $4, %ebx
  arm 2f, 3f
2:
  invpcid DATA, %rbx
3:
  movq $0x1000, DATA
  movl $2, %ebx
  arm 4f, 5f
4:
  invpcid DATA, %rbx
5:
  movq $1, DATA
  movl $1, %ebx
  arm 6f, 7f
6:
  invpcid DATA, %rbx
7:
  movq $0, DATA
  movq $1, %rax
  shlq $62, %rax
  movq %rax, DATA + 8
  xorl %ebx, %ebx
  arm 8f, 9f
8:
  invpcid DATA, %rbx
9:
  finish
endguest promises_invpcid_refused

// PCIDE needs long mode and context 0; while it is on, CR3 has a context, and bit 63 of what is written to it is not kept.
guest promises_pcid, 64
  movl $1, %eax
  cpuid
  btl $17, %ecx
  jc 1f
  finish
1:
  movq %cr3, %r8
  leaq 1(%r8), %rax
  movq %rax, %cr3
  movq %cr4, %r9
  btsq $17, %r9
  arm 2f, 3f
2:
  movq %r9, %cr4
3:
  movq %r8, %cr3
  movq %r9, %cr4
  leaq 5(%r8), %rax
  btsq $63, %rax
  movq %rax, %cr3
  movq %cr3, %rax
  subq %r8, %rax
  emit64
  // Paging can't be switched off from 64-bit code in any case; CR4.PCIDE can, whatever the context is.
  btrq $17, %r9
  movq %r9, %cr4
  movq %cr3, %rax
  subq %r8, %rax
  emit64
  finish
endguest promises_pcid

// RDPID gives TSC_AUX.
guest promises_rdpid, 64
  unless_announced %ecx, 22, 0x1234
  movl $0xc0000103, %ecx
  movl $0x1234, %eax
  xorl %edx, %edx
  wrmsr
  rdpid %rax
  emit
  finish
endguest promises_rdpid

// A null selector clears the base of FS and GS where CPUID says so.
guest promises_null_base, 64
  movl $0x80000000, %eax
  cpuid
  cmpl $0x80000021, %eax
  jb 1f
  movl $0x80000021, %eax
  cpuid
  btl $6, %eax
  jc 2f
1:
  xorl %eax, %eax
  emit
  emit
  finish
2:
  movl $0xc0000100, %ecx
  movl $0x12345678, %eax
  xorl %edx, %edx
  wrmsr
  incl %ecx
  wrmsr
  xorl %eax, %eax
  movw %ax, %fs
  movl $3, %eax
  movw %ax, %gs
  movl $0xc0000100, %ecx
  rdmsr
  emit
  incl %ecx
  rdmsr
  emit
  finish
endguest promises_null_base

// KVM's call for one interrupt to many processors: to this one, to none, with a destination that it may not have.
guest promises_send_interrupts, 64
  movl $0xfee000f0, %ebx
  movl $0x1ff, (%rbx)
  movl $10, %eax
  movl $1, %ebx
  xorl %ecx, %ecx
  xorl %edx, %edx
  movl $0x51, %esi
  arm_return 1f
  sti
  nop
  vmmcall
1:
  nop
  cli
  emit64
  movl $10, %eax
  movl $0xffffffff, %edx
  vmmcall
  emit64
  movl $10, %eax
  xorl %edx, %edx
  movl $0x40051, %esi
  vmmcall
  emit64
  finish
endguest promises_send_interrupts
