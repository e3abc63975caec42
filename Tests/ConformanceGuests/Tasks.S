// Hardware's task switches (AMD64 APM vol. 2, 12.3): by a jump, a call, a task gate, and back by IRET.
//
// The other task's TSS is at DATA, its selector CALL_GATE; TaskCases.swift lays it out. Its code is the companion. The descriptor of
// the guest's own TSS is TSS_SELECTOR's.

#include "guest.h"

#define OTHER CALL_GATE
#define BUSY_BYTE(selector) GDT + selector + 5
#define SAVED_EIP 0x20
#define SAVED_FLAGS 0x24
#define SAVED_EAX 0x28
#define SAVED_ESP 0x38
#define SAVED_ES 0x48

// The TSS is loaded here, though it is there from the start: some simulated processors take none but by LTR.
.macro own_task
  andb $0xfd, BUSY_BYTE(TSS_SELECTOR)
  movl $TSS_SELECTOR, %eax
  ltr %ax
.endm

// TR, the busy bits of both descriptors, CR0.TS and RFLAGS.NT.
.macro report_tasks
  strl %eax
  emit
  movzbl BUSY_BYTE(TSS_SELECTOR), %eax
  emit
  movzbl BUSY_BYTE(OTHER), %eax
  emit
  smswl %eax
  andl $8, %eax
  emit
  clts
  pushfl
  popl %eax
  andl $0x4000, %eax
  emit
.endm

// There and back by jumps.
guest task_jump, 32
  own_task
  movl $0x22222222, %eax
  movl $AT(1f), EXPECTED
  ljmpl $OTHER, $0xf4f4f4f4
1:
  emit
  report_tasks
  finish
endguest task_jump

guest task_jump_code, 32
  emit
  movl %esp, %eax
  emit
  movl %cs, %eax
  emit
  report_tasks
  movl TSS + SAVED_EIP, %eax
  subl EXPECTED, %eax
  emit
  movl TSS + SAVED_EAX, %eax
  emit
  movl TSS + SAVED_ESP, %eax
  emit
  movzwl TSS + SAVED_ES, %eax
  emit
  ljmpl $TSS_SELECTOR, $0
endguest task_jump_code

// Called twice: the second time it goes on behind its IRET.
guest task_call, 32
  own_task
  lcall $OTHER, $0xf4f4f4f4
  report_tasks
  lcall $OTHER, $0xf4f4f4f4
  emit_value $3
  finish
endguest task_call

guest task_call_code, 32
1:
  report_tasks
  movzwl DATA, %eax
  emit
  iretl
  emit_value $2
  jmp 1b
endguest task_call_code

// INT n through a task gate; then a fault with an error code, whose task lets it be skipped.
guest task_gate, 32
  own_task
  movl $AT(1f), EXPECTED
  int $0x21
1:
  report_tasks
  movl $AT(2f), EXPECTED
  movl $NOT_PRESENT, %eax
2:
  movl %eax, %fs
  finish
endguest task_gate

guest task_gate_code, 32
  movl TSS + SAVED_EIP, %eax
  subl EXPECTED, %eax
  emit
  report_tasks
  iretl
  popl %eax
  emit
  movl TSS + SAVED_EIP, %eax
  subl EXPECTED, %eax
  emit
  movl TSS + SAVED_FLAGS, %eax
  andl $0x10000, %eax
  emit
  // Behind the MOV.
  addl $2, TSS + SAVED_EIP
  iretl
endguest task_gate_code

// An interrupt of the machine through a task gate.
guest task_interrupt, 32
  own_task
  // The local APIC's software enable.
  movl $0x1ff, 0xfee000f0
  sti
  nop
  event EVENT_MESSAGE
  nop
  nop
  cli
  emit_value $4
  finish
endguest task_interrupt

guest task_interrupt_code, 32
  emit_value $5
  movl TSS + SAVED_FLAGS, %eax
  andl $0x200, %eax
  emit
  movl $0, 0xfee000b0
  iretl
endguest task_interrupt_code

// A TSS of 16 bits: the low halves; FS, GS and CR3 are not in it.
guest task_16, 32
  own_task
  movl $0x22222222, %eax
  ljmpl $OTHER, $0
  finish
endguest task_16

guest task_16_code, 32
  movzwl %ax, %eax
  emit
  movzwl %sp, %eax
  emit
  report_tasks
  ljmpl $TSS_SELECTOR, $0
endguest task_16_code

// To a task that is busy, to oneself, to one that is not there, to one in the local table, back to one that is not busy.
guest task_refused, 32
  own_task
  orb $2, BUSY_BYTE(OTHER)
  arm 1f, 2f
1:
  ljmpl $OTHER, $0
2:
  arm 3f, 4f
3:
  lcall $TSS_SELECTOR, $0
4:
  andb $0x7d, BUSY_BYTE(OTHER)
  arm 5f, 6f
5:
  ljmpl $OTHER, $0
6:
  orb $0x80, BUSY_BYTE(OTHER)
  movw $OTHER, TSS
  arm 7f, 8f
  pushl $0x4002
  popfl
7:
  iretl
8:
  movw $OTHER | 4, TSS
  arm 11f, 12f
  pushl $0x4002
  popfl
11:
  iretl
12:
  pushl $2
  popfl
  finish
endguest task_refused

// What is wrong with the new task's selectors is the new task's fault.
guest task_selectors, 32
  own_task
  movl $LOAD + 0x1000, EXPECTED
  movl $LOAD + 0x1000, RESUME
  ljmpl $OTHER, $0
endguest task_selectors

guest task_selectors_code, 32
  strl %eax
  emit
  finish
endguest task_selectors_code

// A task at CPL 3.
guest task_user, 32
  own_task
  ljmpl $OTHER, $0
endguest task_user

guest task_user_code, 32
  movl %cs, %eax
  user_emit %eax
  movl %esp, %eax
  user_emit %eax
  user_finish
endguest task_user_code

// T: #DB when the switch is complete; and the breakpoints' local enables are cleared by it.
guest task_trap, 32
  own_task
  movl $0x7ff, %eax
  movl %eax, %dr7
  movl $0x70000, %eax
  movl %eax, %dr0
  movl %eax, %dr1
  movl %eax, %dr2
  movl %eax, %dr3
  movl $LOAD + 0x1000, EXPECTED
  movl $LOAD + 0x1000, RESUME
  ljmpl $OTHER, $0
endguest task_trap

guest task_trap_code, 32
  emit_debug_status
  emit_debug_control
  finish
endguest task_trap_code
