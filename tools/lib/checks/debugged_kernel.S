// A small kernel and its user code that are debugged (tools/check-gdb), where no Linux kernel is at hand: rounds of what a debugger steps
// over, with places that it knows by name, a look at whether anything went wrong, and a panic. 64-bit code, entered as an ELF executable.
// Sources: AMD64 APM vol. 2, 4.8 (descriptors), 6.1 (SYSCALL), 8.9 (frames), 12.2.5 (task state).

#include "../../../Tests/CDebuggedGuest/segments.h"
#include "debugged.h"

  .set EXIT_PORT, 0xf4
  .set EFER_SCE, 1
  .set FLAG_IF, 0x200
  .set PAGE_USER, 0x7
  .set PAGE_2M_USER, 0x87
  .set VECTOR_DB, 1
  .set VECTOR_PF, 14

  // What user code asks for, in EAX.
  .set CALL_NOTHING, 0
  .set CALL_NEXT_ROUND, 1

  .set ROUNDS, 30

  .macro write_model_specific index, low, high
  mov $\index, %ecx
  mov \low, %eax
  mov \high, %edx
  wrmsr
  .endm

  .macro gate vector, handler
  mov $vectors + 16 * \vector, %edi
  mov $\handler, %eax
  mov %ax, (%rdi)
  movw $KERNEL_CODE, 2(%rdi)
  movw $0x8e00, 4(%rdi)
  shr $16, %eax
  mov %ax, 6(%rdi)
  .endm

  .text
  function kernel_entry
  cli
  cld
  mov $stack_end, %esp
  mov $level4, %eax
  mov %rax, %cr3
  lgdt table_register
  pushq $KERNEL_CODE
  pushq $start_kernel
  lretq

  function start_kernel
  mov $KERNEL_DATA, %eax
  mov %eax, %ss
  mov %eax, %ds
  mov %eax, %es
  mov $task_state, %eax
  mov %ax, task_descriptor + 2
  shr $16, %eax
  mov %al, task_descriptor + 4
  mov %ah, task_descriptor + 7
  mov $TASK, %eax
  ltr %ax
  gate VECTOR_DB, debug_handler
  gate VECTOR_PF, page_fault_handler
  lidt vector_register
  mov $MSR_EFER, %ecx
  rdmsr
  or $EFER_SCE, %eax
  wrmsr
  write_model_specific MSR_STAR, $0, $((0x18 | 3) << 16 | KERNEL_CODE)
  write_model_specific MSR_LSTAR, $system_call, $0
  write_model_specific MSR_SFMASK, $(FLAG_TF | FLAG_IF), $0

  function next_round
  pushq $USER_DATA
  pushq $user_stack_end
  pushq $2
  pushq $USER_CODE
  pushq $user_code
  function return_to_user
  iretq

  function system_call
  cmp $CALL_NEXT_ROUND, %eax
  je 1f
  function return_from_call
  sysretq
1:
  mov $stack_end, %esp
  call finish_round
  jmp next_round

  function finish_round
  push %rbp
  mov %rsp, %rbp
  incl counter
  cmpl $ROUNDS, counter
  jb 1f
  call panic
1:
  pop %rbp
  ret

  // Ends with the number of what went wrong.
  function panic
  push %rbp
  mov %rsp, %rbp
  xor %eax, %eax
  cmpl $0, seen_flags
  je 1f
  or $1, %eax
1:
  cmpl $ROUNDS * STEPS, step_count
  je 1f
  or $2, %eax
1:
  cmpl $ROUNDS, fault_count
  je 1f
  or $4, %eax
1:
  cmpl $0, wrong_moves
  je 1f
  or $8, %eax
1:
  mov $EXIT_PORT, %edx
  out %al, %dx
1:
  hlt
  jmp 1b

  function debug_handler
  incl step_count
  iretq

  function page_fault_handler
  // The flags of the code that faulted, which has not set TF.
  push %rax
  mov 32(%rsp), %eax
  and $FLAG_TF, %eax
  or %eax, seen_flags
  pop %rax
  add $8, %rsp
  incl fault_count
  movq $behind_faulting_load, (%rsp)
  iretq

  function user_code
  mov $CALL_NOTHING, %eax
  function user_call
  syscall
  function behind_user_call
  and $FLAG_TF, %r11d
  or %r11d, seen_flags
  movq $0, target
  load_moves
  function user_moves
  rep movsb
  function behind_user_moves
  nop
  load_moves
  repe cmpsb
  je 1f
  incl wrong_moves
1:
  look_at_flags
  // Beyond what is mapped.
  mov $0x7f0000000000, %rbx
  fault
  step_by_itself
  function behind_own_steps
  mov $CALL_NEXT_ROUND, %eax
  syscall

  .data
  // The first GiB, one to one.
  .balign 4096
level4:
  .quad level3 + PAGE_USER
  .fill 511, 8, 0
level3:
  .quad level2 + PAGE_USER
  .fill 511, 8, 0
level2:
  .set page, 0
  .rept 512
  .quad (page << 21) + PAGE_2M_USER
  .set page, page + 1
  .endr
table_register:
  .word table_end - table - 1
  .quad table
vector_register:
  .word 256 - 1
  .quad vectors
  .balign 16
  segment_table
  .balign 16
vectors: .fill 256, 1, 0
  .balign 16
task_state:
  .long 0
  .quad stack_end
  .fill 92, 1, 0
  counted
wrong_moves: .quad 0
  .balign 16
  .fill 4096, 1, 0
stack_end:
  .fill 4096, 1, 0
user_stack_end:
