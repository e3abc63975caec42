// Single steps of 16-bit code (AMD64 APM vol. 2, 13.1.4), in real mode: after which instructions the trap comes, and with which frame.
//
// The handlers of real mode report each frame and return to it, so that TF stays as it was.

#include "guest.h"

.macro real_steps name:req, body:vararg
guest \name, 16
  arm_return 1f
  pushfw
  popw %ax
  orw $0x100, %ax
  pushw %ax
  popfw
1:
  \body
  pushw $2
  popfw
  nop
  finish
endguest \name
.endm

.macro real_plain
  nop
  xchgw %ax, %bx
.endm
real_steps step_real_plain, real_plain

// INT n and INT3 clear TF; behind IRET the next instruction is the first with a trap.
.macro real_interrupts
  int $0x21
  nop
  int3
  nop
.endm
real_steps step_real_interrupts, real_interrupts

.macro real_debug_instruction
  .byte 0xf1
  nop
.endm
real_steps step_real_debug_instruction, real_debug_instruction

.macro real_stack_segment
  xorw %ax, %ax
  movw %ax, %ss
  nop
  movw %ax, %ds
  pushw %ss
  popw %ss
  nop
.endm
real_steps step_real_stack_segment, real_stack_segment

.macro real_repeated
  movw $0x7000, %di
  movw $3, %cx
  rep stosb
.endm
real_steps step_real_repeated, real_repeated

.macro real_branches
  jmp 2f
  nop
2:
  call 3f
3:
  popw %ax
  lcall $0x800, $(4f - 99b)
4:
  addw $4, %sp
.endm
real_steps step_real_branches, real_branches

// POPF and IRET that set TF again, CLI and STI.
.macro real_flags
  pushw $0x102
  popfw
  cli
  pushw $0x102
  pushw %cs
  pushw $AT(5f)
  iretw
5:
  nop
.endm
real_steps step_real_flags, real_flags

// What faults has no trap, and IRET to behind it none either. The guest's own handler reports IP from there on, and TF, of its frame.
guest step_real_fault, 16
  movw $AT(8f), 6 * 4
  movw $0, 6 * 4 + 2
  arm_return 1f
  pushw $0x102
  popfw
1:
  ud2
  nop
  pushw $2
  popfw
  nop
  finish
8:
  pushw %bp
  movw %sp, %bp
  movzwl 2(%bp), %eax
  subl EXPECTED, %eax
  emit
  movzwl 6(%bp), %eax
  andl $0x100, %eax
  emit
  addw $2, 2(%bp)
  popw %bp
  iretw
endguest step_real_fault

// A halt ends at once.
.macro real_halt
  hlt
  nop
.endm
real_steps step_real_halt, real_halt

// DebugCtl.BTF, set from outside: the first branch is a trap, and what is behind it is stepped as ever.
.macro real_branch_flag
  nop
  jmp 2f
  nop
2:
  nop
.endm
real_steps step_real_branch_flag, real_branch_flag
