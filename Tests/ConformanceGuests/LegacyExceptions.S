// Exceptions in real and in 32-bit protected mode: other frames, and instructions that 64-bit mode has lost.

#include "guest.h"

guest real_exceptions, 16
  xorw %cx, %cx
  movw $7, %ax
  xorw %dx, %dx
  arm 1f, 2f
1:
  divw %cx
2:
  arm 3f, 4f
3:
  ud2
4:
  arm 5f, 5f
  int3
5:
  arm 6f, 6f
  int $0x21
6:
  // AAM by zero.
  arm 7f, 8f
7:
  .byte 0xd4, 0
8:
  finish
endguest real_exceptions

// INTO traps only with OF = 1.
guest real_overflow, 16
  xorw %ax, %ax
  into
  movb $0x7f, %al
  addb $1, %al
  arm 1f, 1f
  into
1:
  finish
endguest real_overflow

guest real_bound, 16
  movw $5, 0x7000
  movw $9, 0x7002
  movw $7, %ax
  bound %ax, 0x7000
  emit_value $1
  movw $10, %ax
  arm 1f, 2f
1:
  bound %ax, 0x7000
2:
  finish
endguest real_bound

// The handler is entered with IF and TF clear; IRET brings the flags back.
guest real_interrupt_flags, 16
  movw $2f - 99b + LOAD, 0x60 * 4
  movw $0, 0x60 * 4 + 2
  sti
  int $0x60
  pushfw
  popw %ax
  cli
  andl $0x200, %eax
  emit
  finish
2:
  pushfw
  popw %ax
  andl $0x200, %eax
  emit
  iretw
endguest real_interrupt_flags

// A word at offset 0xffff leaves the segment: #GP, and #SS through SS.
guest real_limit, 16
  movw $0xffff, %bx
  arm 1f, 2f
1:
  movw (%bx), %ax
2:
  movw %bx, %bp
  arm 3f, 4f
3:
  movw (%bp), %ax
4:
  // A 32-bit offset above 64 KiB is beyond it too.
  movl $0x10000, %ebx
  arm 5f, 6f
5:
  movb (%ebx), %al
6:
  finish
endguest real_limit

// SP wraps at 64 KiB, and so do 16-bit addresses made of two registers.
guest real_wrap, 16
  movl $0x8001, %ebx
  movl $0x8000, %esi
  movb $0x5a, 1
  movb (%bx,%si), %al
  movzbl %al, %eax
  emit
  movw %sp, %bp
  movw $0x2000, %ax
  movw %ax, %ss
  movl $0x12340000, %esp
  pushw $0x1234
  movl %esp, %eax
  movzwl %ss:0xfffe, %ecx
  movw $0, %bx
  movw %bx, %ss
  movw %bp, %sp
  andl $0xffff, %eax
  emit
  emit_value %ecx
  finish
endguest real_wrap

// Addresses above 1 MiB are reached: A20 is on.
guest real_high_memory, 16
  movw $0xffff, %ax
  movw %ax, %ds
  movw $0x10, %bx
  movb $0x77, (%bx)
  xorw %ax, %ax
  movw %ax, %ds
  movb $0x11, 0
  movw $0xffff, %ax
  movw %ax, %ds
  movzbl (%bx), %eax
  emit
  finish
endguest real_high_memory

// Far calls and returns, jumps through memory, 32-bit operands and addresses.
guest real_far, 16
  lcall $0x100, $(1f - 99b + LOAD - 0x1000)
2:
  emit_value $2
  finish
1:
  movl %cs, %eax
  andl $0xffff, %eax
  emit
  movw %sp, %bx
  xorl %eax, %eax
  movw (%bx), %ax
  subw $2b - 99b + LOAD, %ax
  emit
  lretw
endguest real_far

guest protected_exceptions, 32
  xorl %ecx, %ecx
  movl $7, %eax
  xorl %edx, %edx
  arm 1f, 2f
1:
  divl %ecx
2:
  arm 3f, 4f
3:
  ud2
4:
  finish
endguest protected_exceptions

guest protected_traps, 32
  arm 1f, 1f
  int3
1:
  xorl %eax, %eax
  into
  movb $0x7f, %al
  addb $1, %al
  arm 2f, 2f
  into
2:
  finish
endguest protected_traps

guest protected_bound, 32
  movl $5, DATA
  movl $9, DATA + 4
  movl $10, %eax
  arm 1f, 2f
1:
  bound %eax, DATA
2:
  finish
endguest protected_bound

guest protected_adjust_privilege, 32
  movw $0x13, %ax
  movw $0x20, %cx
  arpl %ax, %cx
  movzwl %cx, %eax
  emit
  finish
endguest protected_adjust_privilege

// What 32-bit mode has and 64-bit mode has not.
guest protected_instructions, 32
  movl $0x11111111, %eax
  movl $0x22222222, %ebx
  pushal
  xorl %eax, %eax
  xorl %ebx, %ebx
  popal
  emit
  emit_value %ebx
  movl $0x19, %eax
  addb $0x28, %al
  daa
  movzbl %al, %eax
  emit
  movl $0x47, %eax
  aam
  movzwl %ax, %eax
  emit
  aad
  movzwl %ax, %eax
  emit
  movl $0x01234567, DATA
  movw $DATA0, DATA + 4
  lesl DATA, %edx
  emit_value %edx
  stc
  .byte 0xd6
  movzbl %al, %eax
  emit
  finish
endguest protected_instructions

// Limits, types, null selectors.
guest protected_segments, 32
  movl $LIMITED, %eax
  movw %ax, %fs
  movl %fs:0xffc, %eax
  arm 1f, 2f
1:
  movl %fs:0xffd, %eax
2:
  // Expand-down: valid above the limit, up to 4 GiB.
  movl $EXPAND_DOWN, %eax
  movw %ax, %fs
  movl %fs:0x1000, %eax
  arm 3f, 4f
3:
  movl %fs:0xfff, %eax
4:
  movl $READ_ONLY, %eax
  movw %ax, %fs
  movl %fs:0x1000, %ecx
  arm 5f, 6f
5:
  movl %eax, %fs:0x1000
6:
  // Code is never writable and, without the R bit, not readable.
  arm 7f, 8f
7:
  movl %eax, %cs:0x1000
8:
  // A null selector may be loaded but not used.
  xorl %eax, %eax
  movw %ax, %gs
  arm 11f, 12f
11:
  movl %gs:0x1000, %eax
12:
  finish
endguest protected_segments

// SS can't be null, nor of another privilege, nor read-only; nothing can be a system segment.
guest protected_segment_load, 32
  xorl %eax, %eax
  arm 1f, 2f
1:
  movw %ax, %ss
2:
  movl $USER_DATA, %eax
  arm 3f, 4f
3:
  movw %ax, %ss
4:
  movl $READ_ONLY, %eax
  arm 5f, 6f
5:
  movw %ax, %ss
6:
  movl $TSS_SELECTOR, %eax
  arm 7f, 8f
7:
  movw %ax, %ds
8:
  movl $NOT_PRESENT, %eax
  arm 11f, 12f
11:
  movw %ax, %ds
12:
  finish
endguest protected_segment_load

// Loading a segment sets the descriptor's accessed bit.
guest protected_accessed, 32
  andb $0xfe, GDT + LIMITED + 5
  movl $LIMITED, %eax
  movw %ax, %fs
  movzbl GDT + LIMITED + 5, %eax
  emit
  finish
endguest protected_accessed

// A far jump to data, to null, and beyond the table.
guest protected_far_refused, 32
  arm 1f, 2f
1:
  ljmpl $DATA0, $0
2:
  arm 3f, 4f
3:
  ljmpl $0, $0
4:
  arm 5f, 6f
5:
  ljmpl $0x1000, $0
6:
  finish
endguest protected_far_refused

// The TSS is loaded here, though it is there from the start: some simulated processors take none but by LTR.
.macro enter_user
  andb $0xfd, GDT + TSS_SELECTOR + 5
  movl $TSS_SELECTOR, %eax
  ltr %ax
  pushl $USER_DATA
  pushl $USER_STACK
  pushl $2
  pushl $USER_CODE32
  pushl $AT(1f)
  iretl
1:
  movl $USER_DATA, %eax
  movl %eax, %ds
  movl %eax, %es
.endm

// Into CPL 3 and back by an exception: the frame now has ESP and SS.
guest protected_privilege, 32
  enter_user
  movl %cs, %eax
  user_emit %eax
  arm 2f, 3f
2:
  cli
3:
  movl %esp, %eax
  user_emit %eax
  user_finish
endguest protected_privilege

// A call gate of DPL 3 copies as many parameters as it says to the new stack.
guest protected_call_gate, 32
  enter_user
  pushl $0x1111
  pushl $0x2222
  lcall $CALL_GATE | 3, $0
  movl %esp, %eax
  user_emit %eax
  movl %cs, %eax
  user_emit %eax
  user_finish
endguest protected_call_gate

guest protected_call_gate_target, 32
  movl %cs, %eax
  emit
  movl %esp, %eax
  emit
  movl 8(%esp), %eax
  emit
  movl 12(%esp), %eax
  emit
  lretl $8
endguest protected_call_gate_target

// A conforming segment runs at its caller's privilege.
guest protected_conforming, 32
  lcall $CONFORMING32, $AT(1f)
  movl %cs, %eax
  user_emit %eax
  user_finish
1:
  movl %cs, %eax
  user_emit %eax
  lretl
endguest protected_conforming

// A TSS that is too small: #TS with its selector.
guest protected_task_refused, 32
  arm 1f, 2f
1:
  ljmpl $CALL_GATE, $0
2:
  finish
endguest protected_task_refused

// A 16-bit stack in protected mode: SP counts, ESP's upper half stays.
guest protected_stack16, 32
  movl %esp, %ebp
  movl $DATA16, %eax
  movl %eax, %ss
  movl $0x12340100, %esp
  pushl $0x55667788
  movl %esp, %ecx
  movl $DATA0, %eax
  movl %eax, %ss
  movl %ebp, %esp
  emit_value %ecx
  emit_value 0xfc
  finish
endguest protected_stack16

.macro faulting_at code:vararg
  arm 1f, 2f
1:
  \code
2:
.endm

// Every exception that an instruction of 32 bits can raise by itself, in each mode that has such code.
guest every_exception, 32
  movl $7, %eax
  xorl %edx, %edx
  xorl %ecx, %ecx
  faulting_at divl %ecx
  arm 3f, 3f
  int3
3:
  movb $0x7f, %al
  addb $1, %al
  arm 4f, 4f
  into
4:
  movl $5, DATA
  movl $9, DATA + 4
  movl $10, %eax
  faulting_at bound %eax, DATA
  faulting_at ud2
  movl $NOT_PRESENT, %eax
  faulting_at movl %eax, %es
  movl $0xfff8, %eax
  faulting_at movl %eax, %es
  // Behind the instruction that follows the POPF.
  pushfl
  orl $0x100, (%esp)
  arm 5f, 6f
  popfl
  nop
5:
  nop
6:
  // Division by zero, not masked.
  movl $0x360, DATA
  fninit
  fldcw DATA
  fld1
  fldz
  fdivrp
  faulting_at fwait
  fninit
  movl $0x1d80, DATA
  ldmxcsr DATA
  movl $0x3f800000, DATA
  movss DATA, %xmm0
  xorps %xmm1, %xmm1
  faulting_at divss %xmm1, %xmm0
  movl $0x1f80, DATA
  ldmxcsr DATA
  user_finish
endguest every_exception

// And with CR0.TS.
guest every_exception_task_switched, 32
  faulting_at fld1
  faulting_at xorps %xmm0, %xmm0
  user_finish
endguest every_exception_task_switched
