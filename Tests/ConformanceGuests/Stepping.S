// Single steps (AMD64 APM vol. 2, 13.1.4): after which instructions the trap comes, and with which frame.
//
// Each guest sets TF and runs what it is about. `stepping_handlers` reports each #DB as two numbers: where it came, from the
// label EXPECTED on, and a sum of DR6 (B0 to B3, BD, BS) and the frame's TF and IF. Software interrupts, #UD and page faults report
// their frames in the same way, with 0x1000 for RF, and 0x50000, 0x60000 or 0x70000 added. The guest goes on after each.
//
// Which RF a trap between two rounds of a repeated instruction has in its frame is not asked: the manual says 1, a Zen 4 says 0.

#include "stepping.h"

// The offsets of the handlers from the companion's first byte are those in SteppingCases.swift.
guest stepping_handlers, 64
  report_frame 0
  iretq
  .org guest_begin_stepping_handlers + 0x80
  report_frame 0x50000
  iretq
  .org guest_begin_stepping_handlers + 0x100
  report_frame 0x60000
  addq $2, (%rsp)
  iretq
  .org guest_begin_stepping_handlers + 0x180
  // The frame of a page fault: its load is given an address that is there.
  addq $8, %rsp
  report_frame 0x70000
  movl $DATA, %ebx
  iretq
endguest stepping_handlers

.macro plain_steps
  nop
  xchgl %eax, %ebx
.endm
for_all plain, plain_steps

// POPF that sets TF again, and one that leaves it.
.macro flag_steps64
  pushq $0x102
  popfq
  nop
.endm
for_both flags, 64, flag_steps64
.macro flag_steps32
  pushl $0x102
  popfl
  nop
.endm
for_both flags_compatibility, 32, flag_steps32

.macro branch_steps
  jmp 2f
  nop
2:
  call 3f
  jmp 4f
3:
  ret
4:
  testl %esp, %esp
  jz 5f
  jnz 5f
  nop
5:
.endm
for_all branches, branch_steps

// Through a gate TF is off; IRET brings it back, and the next instruction is the first to trap.
.macro interrupt_steps
  int $0x50
  nop
  int3
  nop
.endm
for_all interrupts, interrupt_steps

.macro debug_instruction_steps
  .byte 0xf1
  nop
.endm
for_all debug_instruction, debug_instruction_steps

.macro overflow_steps
  into
  movb $0x7f, %al
  addb $1, %al
  into
  nop
.endm
for_both overflow_compatibility, 32, overflow_steps

// What faults has no trap; its frame has RF.
.macro fault_steps
  ud2
  nop
.endm
for_all fault, fault_steps

.macro page_fault_steps
  movl $0x40000000, %ebx
  movl (%ebx), %eax
  nop
.endm
for_all page_fault, page_fault_steps

// Each round of a repeated instruction is an instruction to the trap flag.
.macro repeated_steps
  movl $DATA, %esi
  movl $DATA + 64, %edi
  movl $3, %ecx
  rep movsb
  rep movsb
  movl $2, %ecx
  repe scasb
.endm
for_all repeated, repeated_steps

// IRET to the same level: with TF, and without.
.macro return_step64 flags:req
  movq %rsp, %rax
  movl %ss, %ecx
  pushq %rcx
  pushq %rax
  pushq $\flags
  movl %cs, %ecx
  pushq %rcx
  pushq $AT(2f)
  iretq
2:
  nop
.endm
.macro return_steps64
  return_step64 0x102
  return_step64 2
.endm
for_both return, 64, return_steps64
.macro return_step32 flags:req
  pushl $\flags
  movl %cs, %ecx
  pushl %ecx
  pushl $AT(2f)
  iretl
2:
  nop
.endm
.macro return_steps32
  return_step32 0x102
  return_step32 2
.endm
for_both return_compatibility, 32, return_steps32

// MOV SS and POP SS hold the trap back, one behind the other too; MOV DS doesn't.
.macro stack_segment_steps
  movl %ss, %eax
  movl %eax, %ss
  nop
  movl %eax, %ss
  movl %eax, %ss
  nop
  movl %eax, %ds
.endm
for_all stack_segment, stack_segment_steps

.macro pop_stack_steps
  movl %ss, %eax
  pushl %eax
  pop %ss
  nop
.endm
for_both pop_stack_compatibility, 32, pop_stack_steps

// The trap of an instruction that is held back is lost if that clears TF.
.macro stack_segment_flags_steps
  movl %ss, %eax
  pushq $2
  movl %eax, %ss
  popfq
  nop
.endm
for_both stack_segment_flags, 64, stack_segment_flags_steps

// Nothing that MOV SS holds back survives INT n, whose frame has TF.
.macro stack_segment_interrupt_steps
  movl %ss, %eax
  movl %eax, %ss
  int3
  nop
.endm
for_all stack_segment_interrupt, stack_segment_interrupt_steps

// STI holds interrupts back, not single steps.
guest step_interrupt_flag, 64
  step_begin64
  sti
  nop
  cli
  nop
  step_end64
  finish
endguest step_interrupt_flag

guest step_interrupt_flag_compatibility, 32
  step_begin32
  sti
  nop
  cli
  nop
  step_end32
  finish
endguest step_interrupt_flag_compatibility

// The same at CPL 3, whose IOPL lets it.
.macro interrupt_flag_steps
  cli
  nop
  sti
  nop
.endm
for_all interrupt_flag_by_level, interrupt_flag_steps

// A halt ends at once.
guest step_halt, 64
  step_begin64
  hlt
  nop
  step_end64
  finish
endguest step_halt

guest step_halt_compatibility, 32
  step_begin32
  hlt
  nop
  step_end32
  finish
endguest step_halt_compatibility

// IRET from CPL 0, which is not stepped, to CPL 3, which is.
guest step_return_outwards, 64
  movl $AT(1f), EXPECTED
  pushq $USER_DATA
  pushq $USER_STACK
  pushq $0x102
  pushq $USER_CODE64
  pushq $AT(1f)
  iretq
1:
  nop
  step_end64
  user_finish
endguest step_return_outwards

// And one that is, to CPL 3: the trap behind it comes from there.
guest step_return_stepped, 64
  step_begin64
  pushq $USER_DATA
  pushq $USER_STACK
  pushq $0x102
  pushq $USER_CODE64
  pushq $AT(2f)
  iretq
2:
  nop
  step_end64
  user_finish
endguest step_return_stepped

// DebugCtl.BTF, set from outside: the first branch is a trap, and what is behind it is stepped as ever.
.macro branch_flag_steps
  nop
  jmp 2f
  nop
2:
  nop
.endm
for_all branch_flag, branch_flag_steps

// What needs call-outs to a monitor is stepped like the rest.
guest step_sensitive, 64
  step_begin64
  cpuid
  rdtsc
  inb $JOURNAL, %al
  outb %al, $JOURNAL
  movq %cr0, %rax
  movq %rax, %cr0
  movl $DEVICE, %ebx
  movl %eax, (%rbx)
  step_end64
  finish
endguest step_sensitive

// SYSCALL: what SFMASK leaves of TF decides, and SYSRET that brings it back traps before the next instruction.
.macro system_call name:req, bits:req, back:vararg
guest \name, \bits
  step_begin\bits
  syscall
  // LSTAR and CSTAR lead behind this jump, RCX to it.
  jmp 3f
  .org guest_begin_\name + 0x40
  .code64
  nop
  \back
  .org guest_begin_\name + 0x60
  .code\bits
3:
  nop
  step_end\bits
  user_finish
endguest \name
.endm
system_call step_system_call, 64, sysretq
system_call step_system_call_compatibility, 32, sysretl

// Bit 1 of DebugCtl: only branches are stepped, and the exception clears it.
guest step_to_branch, 64
  movl $0x1d9, %ecx
  xorl %edx, %edx
  movl $2, %eax
  wrmsr
  rdmsr
  emit
  step_begin64
  nop
  jz 2f
  nop
  jmp 2f
  nop
2:
  nop
  step_end64
  movl $0x1d9, %ecx
  rdmsr
  emit
  // Reserved bits.
  movl $0x40, %eax
  arm 3f, 4f
3:
  wrmsr
4:
  finish
endguest step_to_branch

// Bit 0: the addresses of the last branch and the last interrupt.
guest step_last_branch, 64
  movl $0x1d9, %ecx
  xorl %edx, %edx
  movl $1, %eax
  movl $AT(1f), EXPECTED
  wrmsr
  int $0x50
1:
  jmp 2f
  nop
2:
  testl %esp, %esp
  jz 3f
3:
  movl $0x1db, %ecx
  rdmsr
  subl EXPECTED, %eax
  emit
  movl $0x1dc, %ecx
  rdmsr
  subl EXPECTED, %eax
  emit
  movl $0x1dd, %ecx
  rdmsr
  subl EXPECTED, %eax
  emit
  movl $0x1de, %ecx
  rdmsr
  emit
  finish
endguest step_last_branch
