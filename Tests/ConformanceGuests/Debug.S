// Debug registers (AMD64 APM vol. 2, 13.1). DR6 says which breakpoint it was; the handler does not change it.

#include "guest.h"

// An instruction breakpoint is a fault, before the instruction.
guest debug_instruction, 64
  movl $AT(1f), %eax
  movq %rax, %dr0
  movl $0x402, %eax
  movq %rax, %dr7
  arm 1f, 2f
1:
  nop
2:
  movq %dr6, %rax
  andl $0xe00f, %eax
  emit
  movq %dr7, %rax
  emit
  finish
endguest debug_instruction

guest debug_instruction_compatibility, 32
  movl $AT(1f), %eax
  movl %eax, %dr0
  movl $0x402, %eax
  movl %eax, %dr7
  arm 1f, 2f
1:
  nop
2:
  emit_debug_status
  emit_debug_control
  finish
endguest debug_instruction_compatibility

// RF in the frame lets the instruction run in spite of its breakpoint, once.
guest debug_resume, 64
  movl $AT(1f), %eax
  movq %rax, %dr0
  movl $0x402, %eax
  movq %rax, %dr7
  movl $2, %ecx
1:
  subl $1, %ecx
  jnz 1b
  emit_value $3
  finish
endguest debug_resume

guest debug_resume_handler, 64
  emit_value %ecx
  orl $0x10000, 16(%rsp)
  iretq
endguest debug_resume_handler

// Data breakpoints are traps, behind the instruction: on writes only, and on reads and writes.
guest debug_write, 64
  movl $DATA, %eax
  movq %rax, %dr1
  movl $0xd00408, %eax
  movq %rax, %dr7
  movl DATA, %eax
  arm 1f, 1f
  movl %eax, DATA + 2
1:
  movq %dr6, %rax
  andl $0xe00f, %eax
  emit
  // Beside it nothing happens.
  movl %eax, DATA + 4
  movl %eax, DATA - 4
  finish
endguest debug_write

guest debug_read, 64
  movl $DATA, %eax
  movq %rax, %dr2
  movl $0x3000420, %eax
  movq %rax, %dr7
  arm 1f, 1f
  movb DATA, %al
1:
  movq %dr6, %rax
  andl $0xe00f, %eax
  emit
  movb DATA + 1, %al
  finish
endguest debug_read

// The same at CPL 3, where only the start can set them.
guest debug_user, 64
  movl DATA, %eax
  arm 1f, 1f
  movl %eax, DATA
1:
  user_finish
endguest debug_user

guest debug_user_instruction, 64
  arm 1f, 2f
1:
  nop
2:
  user_finish
endguest debug_user_instruction

// A port is watched like memory, with CR4.DE.
guest debug_port, 64
  movl $JOURNAL, %eax
  movq %rax, %dr3
  movl $0x20000480, %eax
  movq %rax, %dr7
  arm 1f, 1f
  inb $JOURNAL, %al
1:
  movq %dr6, %rax
  andl $0xe00f, %eax
  emit
  finish
endguest debug_port

guest debug_port_compatibility, 32
  movl $JOURNAL, %eax
  movl %eax, %dr3
  movl $0x20000480, %eax
  movl %eax, %dr7
  arm 1f, 1f
  inb $JOURNAL, %al
1:
  emit_debug_status
  finish
endguest debug_port_compatibility

// GD guards the debug registers: #DB before the access, and GD is cleared.
guest debug_guard, 64
  movl $0x2400, %eax
  movq %rax, %dr7
  arm 1f, 2f
1:
  movq %dr0, %rax
2:
  movq %dr7, %rax
  emit
  movq %dr6, %rax
  andl $0xe00f, %eax
  emit
  finish
endguest debug_guard

// Whoever may not touch them anyway learns that.
guest debug_guard_user, 64
  arm 1f, 2f
1:
  movq %dr0, %rax
2:
  user_finish
endguest debug_guard_user

.macro guard name:req, bits:req
guest \name, \bits
  movl $0x2400, %eax
  movl %eax, %dr7
  arm 1f, 2f
1:
  movl %dr0, %eax
2:
  emit_debug_control
  emit_debug_status
  finish
endguest \name
.endm
guard debug_guard_compatibility, 32
guard debug_real_guard, 16

// With IOPL 3, and DR3 set from outside.
guest debug_port_user, 64
  arm 1f, 1f
  inb $JOURNAL, %al
1:
  user_finish
endguest debug_port_user

// Breakpoints of all kinds in real mode: linear addresses, whatever the segments are.
guest debug_real, 16
  movl %cr4, %eax
  orl $8, %eax
  movl %eax, %cr4
  movl $AT(1f), %eax
  movl %eax, %dr0
  movl $0x7010, %eax
  movl %eax, %dr1
  movl $JOURNAL, %eax
  movl %eax, %dr3
  movl $0x2050048a, %eax
  movl %eax, %dr7
  arm 1f, 2f
1:
  nop
2:
  movl %dr6, %eax
  emit
  xorl %eax, %eax
  movl %eax, %dr6
  movw $0x700, %ax
  movw %ax, %es
  arm 3f, 3f
  movw %ax, %es:0x10
3:
  movl %dr6, %eax
  emit
  xorl %eax, %eax
  movl %eax, %dr6
  arm 4f, 4f
  inb $JOURNAL, %al
4:
  movl %dr6, %eax
  emit
  finish
endguest debug_real

// DR4 and DR5 don't exist with CR4.DE; upper halves of DR6 and DR7 can't be set.
guest debug_refused, 64
  arm 1f, 2f
1:
  .byte 0x0f, 0x21, 0xe0
2:
  movabsq $0x100000400, %rax
  arm 3f, 4f
3:
  movq %rax, %dr7
4:
  arm 5f, 6f
5:
  movq %rax, %dr6
6:
  finish
endguest debug_refused

// All four addresses hold 64 bits; reserved bits of DR6 and DR7 read as they always do.
guest debug_registers, 64
  movabsq $0x123456789abcdef0, %rax
  movq %rax, %dr0
  notq %rax
  movq %rax, %dr3
  movq %dr0, %rax
  emit64
  movq %dr3, %rax
  emit64
  xorl %eax, %eax
  movq %rax, %dr6
  movq %dr6, %rax
  emit64
  xorl %eax, %eax
  movq %rax, %dr7
  movq %dr7, %rax
  emit64
  finish
endguest debug_registers

// DR6.BS after a single step.
guest debug_step, 64
  arm 1f, 1f
  pushfq
  orq $0x100, (%rsp)
  popfq
  nop
1:
  movq %dr6, %rax
  andl $0xe00f, %eax
  emit
  finish
endguest debug_step
