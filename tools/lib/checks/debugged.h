// What the guests that GDB is tried with (tools/check-gdb) have in common: places that it knows by name, what it steps over, and what is
// counted.

  .set FLAG_TF, 0x100

  .macro function name
  .globl \name
  .type \name, @function
\name:
  .endm

  // Whether PUSHF shows a trap flag that the guest has not set.
  .macro look_at_flags
  function push_flags
  pushfq
  function behind_push_flags
  pop %rax
  and $FLAG_TF, %eax
  or %eax, seen_flags
  .endm

  .macro load_moves
  mov $source, %esi
  mov $target, %edi
  mov $32, %ecx
  .endm

  // A load from RBX, where nothing is; the handler goes on behind it.
  .macro fault
  function faulting_load
  mov (%rbx), %eax
  function behind_faulting_load
  nop
  .endm

  // STEPS single steps of the guest's own, from POPF that sets the flag to POPF that clears it.
  .set STEPS, 11
  .macro step_by_itself
  pushfq
  orl $FLAG_TF, (%rsp)
  popfq
  function own_steps
  .rept 8
  nop
  .endr
  pushfq
  andl $~FLAG_TF, (%rsp)
  popfq
  .endm

  .macro counted
  .globl counter, step_count, fault_count, seen_flags
counter: .quad 0
step_count: .quad 0
fault_count: .quad 0
seen_flags: .quad 0
source: .ascii "thirty-two bytes, all in one go."
  .globl target
target: .fill 32, 1, 0
  .endm
