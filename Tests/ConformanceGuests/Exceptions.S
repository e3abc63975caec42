// Exceptions in 64-bit mode (AMD64 APM vol. 2, chapter 8). A guest that changes nothing but its own registers runs at
// CPL 0 and at CPL 3; the handlers of Handlers.S report the frame, and `arm` says where it must point.
//
// Faults point to the instruction, traps behind it.

#include "guest.h"

guest exception_divide, 64
  xorl %ecx, %ecx
  movl $7, %eax
  cltd
  arm 1f, 2f
1:
  divl %ecx
2:
  // A quotient that does not fit is the same fault: the most negative number by -1.
  movabsq $0x8000000000000000, %rax
  cqto
  movq $-1, %rcx
  arm 3f, 4f
3:
  idivq %rcx
4:
  user_emit %rax
  user_finish
endguest exception_divide

guest exception_breakpoint, 64
  arm 1f, 1f
  int3
1:
  arm 2f, 2f
  .byte 0xcd, 3
2:
  user_finish
endguest exception_breakpoint

// INTO does not exist in 64-bit mode; INT 4 goes the same way, and its gate lets CPL 3 in.
guest exception_overflow, 64
  arm 1f, 1f
  int $4
1:
  user_finish
endguest exception_overflow

guest exception_invalid_opcode, 64
  arm 1f, 2f
1:
  ud2
2:
  // PUSH ES is no instruction in 64-bit mode.
  arm 3f, 4f
3:
  .byte 0x06
4:
  // LOCK is only for read-modify-write instructions with a memory operand.
  arm 5f, 6f
5:
  .byte 0xf0, 0x01, 0xc0
6:
  // INTO is none either.
  arm 7f, 8f
7:
  .byte 0xce
8:
  user_finish
endguest exception_invalid_opcode

// INT 1's one-byte form: a trap, with the cause in no bit of DR6.
guest exception_debug_instruction, 64
  arm 1f, 1f
  .byte 0xf1
1:
  user_finish
endguest exception_debug_instruction

// TF set by POPF: the trap comes behind the instruction after it.
guest exception_single_step, 64
  arm 1f, 1f
  pushfq
  orq $0x100, (%rsp)
  popfq
  nop
1:
  user_finish
endguest exception_single_step

// The REP instruction is stepped an iteration at a time: RIP stays on it until the last.
guest exception_single_step_rep, 64
  cld
  movl $DATA, %edi
  movl $2, %ecx
  arm_return 1f
  pushfq
  pushfq
  orq $0x100, (%rsp)
  popfq
1:
  rep stosb
  popfq
  user_emit %rcx
  user_finish
endguest exception_single_step_rep

// The address is not canonical: #GP, but (the next guest) #SS where the base register implies the stack segment.
guest exception_noncanonical, 64
  movabsq $0x800000000000, %rbx
  arm 1f, 2f
1:
  movl (%rbx), %eax
2:
  arm 3f, 4f
3:
  movl %eax, (%rbx)
4:
  user_finish
endguest exception_noncanonical

guest exception_noncanonical_stack, 64
  movabsq $0x800000000000, %rbp
  arm 1f, 2f
1:
  movl (%rbp), %eax
2:
  user_finish
endguest exception_noncanonical_stack

guest exception_noncanonical_push, 64
  movq %rsp, %r8
  movabsq $0x800000001000, %rsp
  arm 1f, 2f
1:
  pushq %rax
2:
  movq %r8, %rsp
  user_finish
endguest exception_noncanonical_push

guest exception_noncanonical_jump, 64
  // A branch through a register faults at the branch (AMD64 APM vol. 3, "JMP (Near)").
  movabsq $0x800000000000, %rbx
  arm 1f, 2f
1:
  jmp *%rbx
2:
  user_finish
endguest exception_noncanonical_jump

// The same of direct branches, from the last page below the hole; RSP stays what it was.
guest exception_noncanonical_direct, 64
  movl $AT(4f), %esi
  movl $DATA + 0xff0, %edi
  movl $7f - 4f, %ecx
  rep movsb
  movabsq $0x7ffffffffff0, %rbx
  movl $3, %ebp
1:
  movq %rbx, EXPECTED
  movq $AT(2f), RESUME
  jmp *%rbx
2:
  // The next kind: CALL, JMP, Jcc.
  addq $5, %rbx
  decl %ebp
  jnz 1b
  user_finish
4:
  .byte 0xe8
  .long 0x1000
  .byte 0xe9
  .long 0x1000
  .byte 0x0f, 0x85
  .long 0x1000
7:
endguest exception_noncanonical_direct

// Selectors that can't be loaded; the error code is the selector without its RPL.
guest exception_segment_load, 64
  // Beyond the table.
  movl $0x1000, %eax
  arm 1f, 2f
1:
  movw %ax, %ds
2:
  movl $NOT_PRESENT, %eax
  arm 3f, 4f
3:
  movw %ax, %es
4:
  // A stack segment that is not writable.
  movl $READ_ONLY, %eax
  arm 5f, 6f
5:
  movw %ax, %ss
6:
  movl $NOT_PRESENT, %eax
  arm 7f, 8f
7:
  movw %ax, %ss
8:
  // Not readable.
  movl $EXECUTE_ONLY, %eax
  arm 11f, 12f
11:
  movw %ax, %ds
12:
  user_finish
endguest exception_segment_load

guest exception_far_return, 64
  pushq $NOT_PRESENT_CODE
  pushq $AT(2f)
  arm 1f, 2f
1:
  lretq
2:
  addq $16, %rsp
  pushq $DATA0
  pushq $AT(4f)
  arm 3f, 4f
3:
  lretq
4:
  addq $16, %rsp
  pushq $0
  pushq $AT(6f)
  arm 5f, 6f
5:
  lretq
6:
  addq $16, %rsp
  user_finish
endguest exception_far_return

// INT n to a gate that CPL 3 may not use: #GP with the vector and the IDT bit. (At CPL 0 the same gate is open.)
guest exception_gate_privilege, 64
  arm 1f, 2f
1:
  int $0x21
2:
  user_finish
endguest exception_gate_privilege

// A gate that is marked not present; INT n: the EXT bit is clear.
guest exception_gate_not_present, 64
  arm 1f, 2f
1:
  int $0x22
2:
  user_finish
endguest exception_gate_not_present

// Beyond the IDT's limit.
guest exception_gate_beyond, 64
  arm 1f, 2f
1:
  int $0xf0
2:
  user_finish
endguest exception_gate_beyond

// #GP's gate is not present, so that #NP follows on #GP: two contributory exceptions make a double fault. Its RIP is
// undefined by the manual and in fact the instruction's.
guest exception_double_fault, 64
  movl $0x1000, %eax
  arm 1f, 2f
1:
  movw %ax, %ds
2:
  user_finish
endguest exception_double_fault

// A page fault while delivering a page fault (the stack is not there): a double fault, on a stack of its own.
guest exception_double_fault_stack, 64
  movl $0x30100, %esp
  arm 1f, 2f
1:
  movl 0x30ff0, %eax
2:
  user_finish
endguest exception_double_fault_stack

// The stack of the frame is aligned to 16 bytes whatever it was; the frame tells what it was.
guest exception_frame_alignment, 64
  subq $5, %rsp
  arm 1f, 2f
1:
  ud2
2:
  addq $5, %rsp
  user_finish
endguest exception_frame_alignment

// A gate with an IST index changes the stack even without a change of privilege.
guest exception_stack_table, 64
  arm 1f, 2f
1:
  ud2
2:
  user_emit %rsp
  user_finish
endguest exception_stack_table

// The interrupt gate clears IF, and the frame has it set; IRET brings it back. DF stays, TF, NT and RF go.
guest exception_frame_flags, 64
  arm 1f, 2f
  sti
  std
1:
  ud2
2:
  pushfq
  popq %rax
  cld
  cli
  andl $0x600, %eax
  user_emit %rax
  user_finish
endguest exception_frame_flags

// On the way from CPL 3 SS becomes null, and the handler runs at CPL 0; the other segments stay.
guest exception_null_stack_segment, 64
  ud2
endguest exception_null_stack_segment

guest exception_null_stack_segment_handler, 64
  movl %ss, %eax
  emit
  movl %cs, %eax
  emit
  movl %ds, %eax
  emit
  finish
endguest exception_null_stack_segment_handler

// No IDT to speak of: the fault can't be delivered, nor can what follows.
guest triple_fault_64, 64
  ud2
endguest triple_fault_64

guest triple_fault_32, 32
  ud2
endguest triple_fault_32

guest triple_fault_16, 16
  ud2
endguest triple_fault_16
