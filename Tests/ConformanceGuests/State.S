// Stops of a running guest, and the processor's state as the runner reads and writes it.

#include "guest.h"

// The stop request comes while nothing but a jump to itself runs.
guest stop_loop, 64
  user_event EVENT_STOP | EVENT_LATER
1:
  jmp 1b
endguest stop_loop

guest stop_loop_16, 16
  cli
  event EVENT_STOP | EVENT_LATER
1:
  jmp 1b
endguest stop_loop_16

// While one instruction has very much to do.
guest stop_rep, 64
  cld
  movl $0x600000, %esi
  movabsq $0x10000000000, %rcx
  user_event EVENT_STOP | EVENT_LATER
  rep lodsb
endguest stop_rep

// While it sleeps.
guest stop_halt, 64
  event EVENT_STOP | EVENT_LATER
  sti
1:
  hlt
  jmp 1b
endguest stop_halt

// The runner looks at the registers, changes some, and lets it go on.
guest stop_state, 64
  movl $0x11, %r8d
  movl $0x22, %r15d
  movl $0x33, %ebp
  user_event EVENT_STOP
  nop
  user_emit %r8
  user_emit %r15
  user_emit %rbp
  user_emit %rsp
  user_finish
endguest stop_state

guest stop_many, 64
  movl $20, %ecx
1:
  user_event EVENT_STOP
  subl $1, %ecx
  jnz 1b
  user_emit %rcx
  user_finish
endguest stop_many

// What the runner reads at the end: every register has a value of its own.
guest state_general, 64
  movl $1, %ecx
  movl $2, %edx
  movl $3, %ebx
  movl $4, %ebp
  movl $5, %esi
  movl $6, %edi
  movl $8, %r8d
  movl $9, %r9d
  movl $10, %r10d
  movl $11, %r11d
  movl $12, %r12d
  movl $13, %r13d
  movl $14, %r14d
  movabsq $0x1122334455667788, %r15
  stc
  user_finish 7
  nop
endguest state_general

// The same for an OUT.
guest state_port, 64
  finish 7
  nop
endguest state_port

// What the runner wrote before the start arrives.
guest state_written, 64
  user_emit %rax
  user_emit %rbx
  user_emit %rsi
  user_emit %r9
  user_emit %r14
  pushfq
  popq %rax
  andl $0x8d5, %eax
  user_emit %rax
  user_finish
endguest state_written

guest state_system, 64
  movq %cr2, %rax
  emit64
  movq %dr0, %rax
  emit64
  movl $0xc0000102, %ecx
  rdmsr
  emit
  emit_value %edx
  movl $0xc0000082, %ecx
  rdmsr
  emit
  movl $0x277, %ecx
  rdmsr
  emit
  movl %fs:0, %eax
  emit
  movq %cr8, %rax
  emit64
  sgdt DATA + 0x100
  movzwl DATA + 0x100, %eax
  emit
  finish
endguest state_system

guest state_vector, 64
  movups %xmm1, DATA
  movq DATA, %rax
  user_emit %rax
  stmxcsr DATA
  movl DATA, %eax
  user_emit %rax
  fnstcw DATA
  movzwl DATA, %eax
  user_emit %rax
  vmovups %ymm1, DATA
  movq DATA + 24, %rax
  user_emit %rax
  user_event EVENT_STOP
  vmovups %ymm2, DATA
  movq DATA, %rax
  user_emit %rax
  movq DATA + 24, %rax
  user_emit %rax
  user_finish
endguest state_vector

// An event that is pending at the start is delivered before the first instruction.
guest state_pending, 64
1:
  nop
2:
  finish
endguest state_pending
