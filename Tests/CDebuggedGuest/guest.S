// A guest without a kernel of its own that does, one after the other, what a debugger must not get lost in. 64-bit code, loaded
// at 1 MiB and entered with identity page tables. `place` gives an instruction or datum a name that tests can find.

#include "segments.h"

  .set EXIT_PORT, 0x5f0
  .set FLAG_TF, 0x100
  .set FLAG_IF, 0x200
  .set TOP, 0x200000
  .set USER_TOP, 0x1f0000

  .macro place name
\name:
  .pushsection .rodata.debugged, "a"
  .quad \name - debugged_guest
  .ascii "\name"
  .balign 64, 0
  .popsection
  .endm

  .section .rodata.debugged, "a"
  .balign 64
  .globl debugged_places
debugged_places:

  .section .rodata
  .globl debugged_guest, debugged_guest_end
  .balign 4096
  .code64
debugged_guest:
  mov $TOP, %esp
  lgdt table_register(%rip)
  push $KERNEL_CODE
  lea 1f(%rip), %rax
  push %rax
  lretq
1:
  mov $KERNEL_DATA, %eax
  mov %eax, %ss
  mov %eax, %ds
  mov %eax, %es
  // The task's segment: its base is not known to the assembler.
  lea task_segment(%rip), %rax
  lea task_descriptor(%rip), %rdi
  mov %ax, 2(%rdi)
  shr $16, %rax
  mov %al, 4(%rdi)
  mov %ah, 7(%rdi)
  mov $TASK, %eax
  ltr %ax
  mov $1, %ecx
  lea debug_handler(%rip), %rax
  call set_gate
  mov $3, %ecx
  lea breakpoint_handler(%rip), %rax
  call set_gate
  mov $6, %ecx
  lea invalid_handler(%rip), %rax
  call set_gate
  mov $14, %ecx
  lea page_fault_handler(%rip), %rax
  call set_gate
  lidt vector_register(%rip)
  // The first pages of 2 MiB for user code, too.
  mov %cr3, %rdi
  orb $4, (%rdi)
  mov (%rdi), %rdi
  and $~0xfff, %rdi
  orb $4, (%rdi)
  mov (%rdi), %rdi
  and $~0xfff, %rdi
  orb $4, (%rdi)
  orb $4, 8(%rdi)
  mov %cr3, %rdi
  mov %rdi, %cr3

  place first
  nop
  nop

  // Stores that a watchpoint sees, and one beside it that it must not.
  place stores
  movl $1, counter(%rip)
  movl $1, neighbour(%rip)
  place second_store
  movl $2, counter(%rip)
  place behind_second_store
  nop
  mov counter(%rip), %eax
  place behind_load
  nop

  // The trap flag of a debugger must not be seen.
  place push_flags
  pushfq
  place behind_push_flags
  pop %rax
  mov %rax, seen_flags(%rip)
  pushq $2
  place pop_flags
  popfq
  place behind_pop_flags
  nop

  place repeat
  lea source(%rip), %rsi
  lea target(%rip), %rdi
  mov $8, %ecx
  place moves
  rep movsb
  place behind_moves
  nop

  // Faulting instructions: the handlers lead behind them.
  place invalid
  ud2
  place behind_invalid
  mov $0x7f0000000000, %rbx
  place faulting_load
  mov (%rbx), %eax
  nop
  place behind_faulting_load
  nop
  place own_breakpoint
  int3
  place behind_own_breakpoint
  nop

  // The guest's own single steps.
  place own_steps
  pushfq
  orq $FLAG_TF, (%rsp)
  popfq
  place own_stepped
  nop
  place in_own_steps
  nop
  nop
  pushfq
  andq $~FLAG_TF, (%rsp)
  popfq
  place behind_own_steps
  nop

  // To user code and back.
  mov $MSR_EFER, %ecx
  rdmsr
  or $1, %eax
  wrmsr
  mov $MSR_STAR, %ecx
  xor %eax, %eax
  mov $((0x18 | 3) << 16 | KERNEL_CODE), %edx
  wrmsr
  mov $MSR_LSTAR, %ecx
  lea call_entry(%rip), %rax
  xor %edx, %edx
  wrmsr
  mov $MSR_SFMASK, %ecx
  mov $FLAG_TF | FLAG_IF, %eax
  wrmsr
  push $USER_DATA
  push $USER_TOP
  push $2
  push $USER_CODE
  lea user(%rip), %rax
  push %rax
  place return_to_user
  iretq

  place user
  nop
  mov $1, %eax
  place user_call
  syscall
  place behind_user_call
  mov %r11, call_flags(%rip)
  mov $2, %eax
  syscall

  place call_entry
  cmp $2, %eax
  je 1f
  place system_return
  sysretq
1:
  mov $TOP, %esp
  // What went wrong, if anything: a trap flag that was seen, and steps of its own that were not as many as there are.
  xor %eax, %eax
  testl $FLAG_TF, seen_flags(%rip)
  jz 1f
  or $1, %eax
1:
  testl $FLAG_TF, call_flags(%rip)
  jz 1f
  or $2, %eax
1:
  cmpl $6, step_count(%rip)
  je 1f
  or $4, %eax
1:
  cmpl $1, breakpoint_count(%rip)
  je 1f
  or $8, %eax
1:
  mov source(%rip), %rcx
  cmp target(%rip), %rcx
  je 1f
  or $16, %eax
1:
  cmpl $1, invalid_count(%rip)
  je 1f
  or $32, %eax
1:
  testl $1, frame_flags(%rip)
  jz 1f
  or $64, %eax
1:
  mov $EXIT_PORT, %edx
  place the_end
  out %al, %dx
1:
  hlt
  jmp 1b

  // Vector in RCX, handler in RAX.
set_gate:
  shl $4, %ecx
  lea vectors(%rip), %rdi
  add %rcx, %rdi
  mov %ax, (%rdi)
  movw $KERNEL_CODE, 2(%rdi)
  movw $0xee00, 4(%rdi)
  shr $16, %rax
  mov %ax, 6(%rdi)
  movq $0, 8(%rdi)
  ret

  // Whether a frame has the trap flag, though the code that it is of has not set it.
  .macro look_at_frame offset
  push %rax
  mov \offset + 8(%rsp), %rax
  shr $8, %eax
  and $1, %eax
  or %eax, frame_flags(%rip)
  pop %rax
  .endm

  place debug_handler
  incl step_count(%rip)
  iretq
  place breakpoint_handler
  look_at_frame 16
  incl breakpoint_count(%rip)
  iretq
  place invalid_handler
  look_at_frame 16
  incl invalid_count(%rip)
  addq $2, (%rsp)
  iretq
  place page_fault_handler
  look_at_frame 24
  add $8, %rsp
  addq $2, (%rsp)
  place fault_return
  iretq

  .balign 16
table_register:
  .word table_end - table - 1
  .quad 0x100000 + table - debugged_guest
vector_register:
  .word 16 * 16 - 1
  .quad 0x100000 + vectors - debugged_guest
  .balign 16
  segment_table
  .balign 16
vectors:
  .fill 16 * 16, 1, 0
  // Stores are not to meet code.
  .balign 4096
task_segment:
  .long 0
  .quad TOP
  .fill 92, 1, 0
  place counter
  .quad 0
  place neighbour
  .quad 0
  place seen_flags
  .quad 0
  place call_flags
  .quad 0
  place frame_flags
  .quad 0
  place step_count
  .quad 0
  place breakpoint_count
  .quad 0
  place invalid_count
  .quad 0
  place source
  .ascii "eightone"
  place target
  .quad 0
debugged_guest_end:

  .section .rodata.debugged, "a"
  .globl debugged_places_end
debugged_places_end:

  .section .note.GNU-stack, "", @progbits
