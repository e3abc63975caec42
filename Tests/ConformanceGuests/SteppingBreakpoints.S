// Breakpoints, watchpoints and RF under single steps (AMD64 APM vol. 2, 13.1.1, 13.1.3 and 13.1.4), and without. Stepping.S says what is reported.

#include "stepping.h"

// To the next instruction by IRET, whose frame has RF.
.macro return_resuming
  movq %rsp, %rax
  pushq $DATA0
  pushq %rax
  pushq $0x10002
  pushq $CODE64
  pushq $AT(1f)
  iretq
1:
.endm

// A breakpoint on an instruction, in DR0; changes EAX.
.macro break_at to:req
  movl $AT(\to), %eax
  movq %rax, %dr0
  movl $0x402, %eax
  movq %rax, %dr7
.endm

.macro clear_breakpoints
  xorl %eax, %eax
  movq %rax, %dr7
.endm

// A store to what is watched, stepped: one trap with both reasons. DR0 is set from outside.
.macro watch_steps
  movl $1, DATA
  movl DATA, %eax
  nop
.endm
for_all watch, watch_steps

// Each round of a repeated instruction can hit a watchpoint, and the next one goes on. DR1 is set from outside.
.macro watch_repeated_steps
  movl $AT(1f), EXPECTED
  movl $DATA, %edi
  movl $4, %ecx
1:
  rep stosb
  nop
.endm
guest step_watch_repeated, 64
  watch_repeated_steps
  finish
endguest step_watch_repeated
guest step_watch_repeated_user, 64
  watch_repeated_steps
  user_finish
endguest step_watch_repeated_user
guest step_watch_repeated_compatibility, 32
  watch_repeated_steps
  finish
endguest step_watch_repeated_compatibility

// Its handler sets RF where the breakpoint was met.
guest step_breakpoint_handler, 64
  pushq %rax
  movq %dr6, %rax
  testb $1, %al
  popq %rax
  jz 1f
  orl $0x10000, 16(%rsp)
1:
  report_frame 0
  iretq
endguest step_breakpoint_handler

// A breakpoint on an instruction that is reached by steps: the step first, then the breakpoint, by itself.
guest step_breakpoint, 64
  break_at 2f
  step_begin64
  nop
2:
  nop
  step_end64
  finish
endguest step_breakpoint

// A breakpoint right behind MOV to DR7, though IRET has set RF before: it counts for one instruction only.
guest step_resume_flag, 64
  movl $AT(1f), EXPECTED
  return_resuming
  break_at 2f
2:
  nop
  clear_breakpoints
  finish
endguest step_resume_flag

// Its handler sets RF for instruction breakpoints, reports frames, and counts.
guest step_resume_handler, 64
  report_frame 0
  orl $0x10000, 16(%rsp)
  iretq
  .org guest_begin_step_resume_handler + 0x80
  report_frame 0x50000
  iretq
endguest step_resume_handler

// A repeated instruction with a breakpoint on it is stopped once, and not in each round.
guest step_resume_repeated, 64
  movl $AT(2f), EXPECTED
  break_at 2f
  movl $DATA, %edi
  movl $3, %ecx
2:
  rep stosb
  clear_breakpoints
  finish
endguest step_resume_repeated

// INT3 behind IRET with RF: its frame has none.
guest step_resume_interrupt, 64
  movl $AT(1f), EXPECTED
  return_resuming
  int3
  finish
endguest step_resume_interrupt

// A watchpoint that MOV SS hits is told behind the next instruction, be it INT3: then before its handler's first one.
guest step_stack_segment_watch, 64
  movl $AT(1f), EXPECTED
  movl $DATA0, DATA
  movl $DATA, %eax
  movq %rax, %dr1
  movl $0xf0040c, %eax
  movq %rax, %dr7
1:
  movw DATA, %ss
  nop
  nop
  movw DATA, %ss
  int3
  clear_breakpoints
  finish
endguest step_stack_segment_watch

// A breakpoint on the instruction behind MOV SS is not held back.
guest step_stack_segment_breakpoint, 64
  movl $AT(1f), EXPECTED
  movl $AT(1f), %eax
  movq %rax, %dr0
  movl $0x402, %eax
  movq %rax, %dr7
  movl $DATA0, %eax
  movl %eax, %ss
1:
  nop
  clear_breakpoints
  finish
endguest step_stack_segment_breakpoint

// String instructions to a watched port, a round each; none if there is no round.
guest step_port_string, 64
  movl $AT(1f), EXPECTED
  movl $JOURNAL, %eax
  movq %rax, %dr3
  movl $0x20000480, %eax
  movq %rax, %dr7
  movl $DATA, %esi
  movl $JOURNAL, %edx
  xorl %ecx, %ecx
  rep outsb
  movl $2, %ecx
1:
  rep outsb
  nop
  finish
endguest step_port_string
