// A paravirtual domain that is debugged where it runs natively (tools/check-gdb): Linux' 64-bit kernel as a domain is translated. Xen's public headers: xen.h, arch-x86/xen-x86_64.h, elfnote.h.

#include "debugged.h"

  .set BASE, 0x400000
  .set SET_TRAP_TABLE, 0
  .set IRET, 23
  .set SCHED_OP, 29
  .set SHUTDOWN, 2
  .set CRASH, 3
  .set KERNEL_CODE, 0xe033

  .macro note type, kind:req, value:vararg
  .balign 4
  .long 4, 2f - 1f, \type
  .asciz "Xen"
1:
  \kind \value
2:
  .endm

  .section .note.Xen, "a", @note
  note 6, .asciz, "trivisor-guest"
  note 5, .asciz, "xen-3.0"
  note 8, .asciz, "generic"
  note 3, .quad, BASE
  note 4, .quad, BASE
  note 1, .quad, domain_entry
  .balign 4

  .text
  function domain_entry
  cld
  mov $stack_end, %esp
  mov $traps, %edi
  mov $SET_TRAP_TABLE, %eax
  syscall
  mov $30, %ebp
  function next_round
  look_at_flags
  load_moves
  function domain_moves
  rep movsb
  function behind_moves
  nop
  mov $0x10, %ebx
  fault
  step_by_itself
  function domain_call
  call work
  dec %ebp
  jnz next_round
  function panic
  mov $SCHED_OP, %eax
  mov $SHUTDOWN, %edi
  mov $reason, %esi
  syscall
  jmp panic

  function work
  push %rbp
  mov %rsp, %rbp
  incl counter
  // A hypercall that does nothing: SCHEDOP_yield.
  mov $SCHED_OP, %eax
  xor %edi, %edi
  function hypercall
  syscall
  function behind_hypercall
  pop %rbp
  ret

  // RCX and R11 come first in a frame; the hypercall that takes it back wants them, RAX and its flags besides.
  .macro take_back
  pushq $0
  push %rcx
  push %r11
  push %rax
  mov $IRET, %eax
  syscall
  .endm

  function debug_handler
  pop %rcx
  pop %r11
  incl step_count
  take_back
  function page_fault_handler
  pop %rcx
  pop %r11
  add $8, %rsp
  incl fault_count
  movq $behind_faulting_load, (%rsp)
  take_back

  .data
  .balign 4096
traps:
  .byte 1, 0
  .word KERNEL_CODE
  .long 0
  .quad debug_handler
  .byte 14, 0
  .word KERNEL_CODE
  .long 0
  .quad page_fault_handler
  .quad 0, 0
  counted
reason: .long 0
  .balign 16
  .fill 4096, 1, 0
stack_end:
