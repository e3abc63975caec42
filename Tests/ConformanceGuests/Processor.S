// Model-specific registers, control registers and the instructions that read system state.

#include "guest.h"

// Registers of SYSCALL hold what is written; reading clears the upper halves of RAX and RDX.
guest msr_syscall, 64
.macro write_and_read number, low, high
  movl $\number, %ecx
  movl $\low, %eax
  movl $\high, %edx
  wrmsr
  orq $-1, %rax
  orq $-1, %rdx
  rdmsr
  emit64
  movq %rdx, %rax
  emit64
.endm
  write_and_read 0xc0000081, 0, 0x00300008
  write_and_read 0xc0000082, 0x81000000, 0xffffffff
  write_and_read 0xc0000083, 0x82000000, 0xffffffff
  write_and_read 0xc0000084, 0x47700, 0
  finish
endguest msr_syscall

guest msr_sysenter, 64
  write_and_read 0x174, 0x10, 0
  write_and_read 0x175, 0x81000000, 0xffffffff
  write_and_read 0x176, 0x82000000, 0xffffffff
  finish
endguest msr_sysenter

guest msr_unknown, 64
  movl $0x12345678, %ecx
  arm 1f, 2f
1:
  rdmsr
2:
  xorl %eax, %eax
  xorl %edx, %edx
  arm 3f, 4f
3:
  wrmsr
4:
  finish
endguest msr_unknown

// LSTAR, CSTAR, the bases of FS and GS, KERNEL_GS_BASE.
guest msr_noncanonical, 64
  xorl %eax, %eax
  movl $0x8000, %edx
  .irp number, 0xc0000082, 0xc0000083, 0xc0000100, 0xc0000101, 0xc0000102
  movl $\number, %ecx
  arm 1f, 2f
1:
  wrmsr
2:
  .endr
  finish
endguest msr_noncanonical

// SCE and NXE can be changed; reserved bits and LME under paging can't; LMA is read-only and ignored.
guest msr_efer, 64
  movl $0xc0000080, %ecx
  rdmsr
  emit
  andl $~1, %eax
  wrmsr
  rdmsr
  emit
  movl $0x40d01, %eax
  arm 1f, 2f
1:
  wrmsr
2:
  movl $0xc01, %eax
  arm 3f, 4f
3:
  wrmsr
4:
  rdmsr
  emit
  finish
endguest msr_efer

guest msr_defaults, 64
  movl $0x1b, %ecx
  rdmsr
  emit
  emit_value %edx
  movl $0x277, %ecx
  rdmsr
  emit
  emit_value %edx
  finish
endguest msr_defaults

// A memory type that does not exist.
guest msr_pat_reserved, 64
  movl $0x277, %ecx
  rdmsr
  movb $2, %al
  arm 1f, 2f
1:
  wrmsr
2:
  finish
endguest msr_pat_reserved

// FS and GS have 64-bit bases; SWAPGS exchanges GS's with KERNEL_GS_BASE.
guest msr_segment_bases, 64
  movl $0x11111111, DATA
  movl $0x22222222, DATA + 0x1000
  movl $0x33333333, DATA + 0x2000
  xorl %edx, %edx
  movl $0xc0000100, %ecx
  movl $DATA, %eax
  wrmsr
  movl $0xc0000101, %ecx
  movl $DATA + 0x1000, %eax
  wrmsr
  movl $0xc0000102, %ecx
  movl $DATA + 0x2000, %eax
  wrmsr
  movl %fs:0, %eax
  emit
  movl %gs:0, %eax
  emit
  swapgs
  movl %gs:0, %eax
  emit
  rdmsr
  emit
  swapgs
  movl $0xc0000101, %ecx
  rdmsr
  emit
  finish
endguest msr_segment_bases

// TSC_AUX comes with RDTSCP; time goes on.
guest msr_time_stamp, 64
  movl $0xc0000103, %ecx
  movl $0x1234, %eax
  xorl %edx, %edx
  wrmsr
  rdtscp
  movl %eax, %esi
  movl %edx, %edi
  emit_value %ecx
  rdtsc
  subl %esi, %eax
  sbbl %edi, %edx
  sets %al
  movzbl %al, %eax
  emit
  finish
endguest msr_time_stamp

guest time_stamp_counter, 64
  orq $-1, %rax
  orq $-1, %rdx
  rdtsc
  movq %rax, %rcx
  shrq $32, %rcx
  user_emit %rcx
  movq %rdx, %rsi
  shlq $32, %rsi
  orq %rax, %rsi
  rdtsc
  shlq $32, %rdx
  orq %rdx, %rax
  xorl %ecx, %ecx
  cmpq %rsi, %rax
  setae %cl
  user_emit %rcx
  user_finish
endguest time_stamp_counter

// Writing the counter sets it, within what passes meanwhile: less than 2^40 cycles.
guest time_stamp_write, 64
  movl $0x10, %ecx
  xorl %eax, %eax
  movl $0x10000, %edx
  wrmsr
  rdtsc
  shrl $8, %edx
  emit_value %edx
  finish
endguest time_stamp_write

guest time_stamp_disabled, 64
  arm 1f, 2f
1:
  rdtsc
2:
  user_finish
endguest time_stamp_disabled

// CR0, CR2, CR3, CR4, CR8 read back what is written; CR8 is the task priority of the local APIC.
guest control_registers, 64
  movq %cr0, %rax
  emit64
  orl $0x10000, %eax
  movq %rax, %cr0
  movq %cr0, %rax
  emit64
  movabsq $0x123456789abcdef0, %rax
  movq %rax, %cr2
  movq %cr2, %rax
  emit64
  movq %cr3, %rax
  emit64
  movq %rax, %cr3
  movq %cr4, %rax
  orl $0x80, %eax
  movq %rax, %cr4
  movq %cr4, %rax
  emit64
  movl $9, %eax
  movq %rax, %cr8
  movq %cr8, %rax
  emit64
  movl $0xfee00080, %ebx
  movl (%rbx), %eax
  emit
  finish
endguest control_registers

.macro refused_control number, register, value
  emit_value $\number
  movabsq $\value, %rax
  arm 1f, 2f
1:
  movq %rax, %\register
2:
.endm

// Paging without protection, not-write-through without cache-disable, unknown bits of CR4, PAE off in long mode.
guest control_registers_refused, 64
  refused_control 1, cr0, 0x80000030
  refused_control 2, cr0, 0xa0000031
  refused_control 3, cr4, 0x80000628
  refused_control 4, cr4, 0x608
  finish
endguest control_registers_refused

guest control_registers_upper_half, 64
  refused_control 1, cr0, 0x180000031
  finish
endguest control_registers_upper_half

// CR8 has four bits.
guest task_priority_refused, 64
  refused_control 1, cr8, 0x10
  finish
endguest task_priority_refused

// CR1 and CR5 do not exist.
guest control_registers_absent, 64
  arm 1f, 2f
1:
  .byte 0x0f, 0x20, 0xc8
2:
  arm 3f, 4f
3:
  .byte 0x0f, 0x22, 0xe8
4:
  finish
endguest control_registers_absent

// SMSW reads CR0, LMSW writes four bits of it and can't clear PE, CLTS clears TS.
guest machine_status_word, 64
  smswl %eax
  andl $0xffff, %eax
  emit
  movw $0x0e, %ax
  lmsw %ax
  movq %cr0, %rax
  emit64
  clts
  movq %cr0, %rax
  emit64
  movw $0, %ax
  lmsw %ax
  movq %cr0, %rax
  emit64
  finish
endguest machine_status_word

// Ten bytes each in 64-bit mode.
guest descriptor_tables, 64
  movq $-1, DATA
  movq $-1, DATA + 8
  sgdt DATA
  movzwl DATA, %eax
  emit
  movq DATA + 2, %rax
  emit64
  movzbl DATA + 10, %eax
  emit
  sidt DATA
  movzwl DATA, %eax
  emit
  movq DATA + 2, %rax
  emit64
  str %eax
  emit
  sldt %eax
  emit
  movw $0x4f, DATA
  movq $GDT, DATA + 2
  lgdt DATA
  sgdt DATA + 16
  movzwl DATA + 16, %eax
  emit
  // What lies beyond the new limit can't be loaded any more.
  movw $LDT_SELECTOR, %ax
  arm 1f, 2f
1:
  lldt %ax
2:
  finish
endguest descriptor_tables

guest descriptor_tables_load, 64
  movw $LDT_SELECTOR, %ax
  lldt %ax
  xorl %eax, %eax
  sldt %ax
  emit
  // The TSS is busy already.
  movw $TSS_SELECTOR, %ax
  arm 1f, 2f
1:
  ltr %ax
2:
  movb $0x89, GDT + TSS_SELECTOR + 5
  ltr %ax
  movzbl GDT + TSS_SELECTOR + 5, %eax
  emit
  // A data segment is no LDT; neither is what is not present.
  movw $DATA0, %ax
  arm 3f, 4f
3:
  lldt %ax
4:
  movb $0x02, GDT + LDT_SELECTOR + 5
  movw $LDT_SELECTOR, %ax
  arm 5f, 6f
5:
  lldt %ax
6:
  finish
endguest descriptor_tables_load

// The same readings at CPL 3, where nothing forbids them without UMIP.
guest sensitive_readings, 64
  sgdt DATA
  movzwl DATA, %eax
  user_emit %rax
  movq DATA + 2, %rax
  user_emit %rax
  sidt DATA
  movq DATA + 2, %rax
  user_emit %rax
  xorl %eax, %eax
  str %ax
  user_emit %rax
  xorl %eax, %eax
  sldt %ax
  user_emit %rax
  smswl %eax
  andl $0xffff, %eax
  user_emit %rax
  user_finish
endguest sensitive_readings

// Access rights and limits without a fault: ZF says whether the selector may be asked about.
guest descriptor_questions, 64
  movl $DATA0, %ecx
  lar %ecx, %eax
  andl $0xf0ff00, %eax
  user_emit %rax
  lsl %ecx, %eax
  user_emit %rax
  movl $LIMITED, %ecx
  lsl %ecx, %eax
  user_emit %rax
  movl $0x5a5a, %eax
  movl $0x1000, %ecx
  lar %ecx, %eax
  setz %bl
  movzbl %bl, %ebx
  user_emit %rbx
  user_emit %rax
  movl $READ_ONLY, %ecx
  xorl %edx, %edx
  verr %cx
  setz %dl
  verw %cx
  setz %dh
  user_emit %rdx
  movl $EXECUTE_ONLY, %ecx
  xorl %edx, %edx
  verr %cx
  setz %dl
  user_emit %rdx
  user_finish
endguest descriptor_questions

// At CPL 3 a segment of DPL 0 may not be asked about, one of DPL 3 may.
guest descriptor_questions_user, 64
  movl $DATA0, %ecx
  movl $0x5a5a, %eax
  lar %ecx, %eax
  setz %bl
  movzbl %bl, %ebx
  user_emit %rbx
  movl $USER_DATA, %ecx
  lar %ecx, %eax
  andl $0xf0ff00, %eax
  user_emit %rax
  lsl %ecx, %eax
  user_emit %rax
  xorl %edx, %edx
  verw %cx
  setz %dl
  user_emit %rdx
  user_finish
endguest descriptor_questions_user

// Caches and translations may be told to forget; nothing is seen of it.
guest cache_control, 64
  wbinvd
  movl $DATA, %ebx
  invlpg (%rbx)
  clflush (%rbx)
  mfence
  lfence
  sfence
  prefetcht0 (%rbx)
  pause
  emit_value $1
  finish
endguest cache_control

// F2 and F3 before LOOPNE and LOOPE: which ZF ends the loop. Reported is a bit for each combination of them, of a count of 1 or 2,
// and of ZF, the first in bit 0: the jump is taken.
.macro loop_combination prefix:req, opcode:req, flags:req, count:req
  movl $\count, %ecx
  pushq $\flags
  popfq
  .byte \prefix, \opcode, 1f - 0f
0:
  jmp 2f
1:
  btsl %edx, %ebx
2:
  incl %edx
.endm
guest loop_prefixes, 64
  xorl %ebx, %ebx
  xorl %edx, %edx
  .irp prefix, 0xf2, 0xf3
  .irp opcode, 0xe0, 0xe1, 0xe2
  .irp flags, 2, 0x42
  loop_combination \prefix, \opcode, \flags, 1
  loop_combination \prefix, \opcode, \flags, 2
  .endr
  .endr
  .endr
  user_emit %rbx
  user_finish
endguest loop_prefixes
