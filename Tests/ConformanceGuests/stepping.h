// How guests set TF and report what comes of it (Stepping.S says what the numbers are).

#include "guest.h"

// A handler's report of its frame: of a #DB, or of another exception or interrupt, whose `kind` is not 0.
.macro report_frame kind:req
  pushq %rax
  movq 8(%rsp), %rax
  subq EXPECTED, %rax
  emit
  pushq %rbx
  movl 32(%rsp), %ebx
  movl %ebx, %eax
  andl $0x300, %eax
  .ifeq \kind
  movq %dr6, %rbx
  andl $0xe00f, %ebx
  orl %ebx, %eax
  xorl %ebx, %ebx
  movq %rbx, %dr6
  .else
  shrl $4, %ebx
  andl $0x1000, %ebx
  orl %ebx, %eax
  orl $\kind, %eax
  .endif
  emit
  popq %rbx
  popq %rax
.endm

.macro step_begin64
  movl $AT(1f), EXPECTED
  pushfq
  orl $0x100, (%rsp)
  popfq
1:
.endm

.macro step_begin32
  movl $AT(1f), EXPECTED
  pushfl
  orl $0x100, (%esp)
  popfl
1:
.endm

// POPF that clears TF is the last instruction with a trap.
.macro step_end64
  pushq $2
  popfq
  nop
.endm

.macro step_end32
  pushl $2
  popfl
  nop
.endm

.macro for_both name:req, bits:req, body:req
guest step_\name, \bits
  step_begin\bits
  \body
  step_end\bits
  finish
endguest step_\name
guest step_\name\()_user, \bits
  step_begin\bits
  \body
  step_end\bits
  user_finish
endguest step_\name\()_user
.endm

.macro for_all name:req, body:req
  for_both \name, 64, \body
  for_both \name\()_compatibility, 32, \body
.endm
