// Into translated code and out of it. No instruction here between loading the guest's RSP and taking the host's back may
// touch the stack.

#include "TrivisorCWorldSwitch.h"

#define GENERAL(n) (CWS_GENERAL + 8 * n)

  .macro SAVE_GENERAL
  mov %rax, %gs:CWS_FLAGS
  mov %r11, %gs:GENERAL(0)
  mov %rcx, %gs:GENERAL(1)
  mov %rdx, %gs:GENERAL(2)
  mov %rbx, %gs:GENERAL(3)
  mov %rsp, %gs:GENERAL(4)
  mov %rbp, %gs:GENERAL(5)
  mov %rsi, %gs:GENERAL(6)
  mov %rdi, %gs:GENERAL(7)
  mov %r8, %gs:GENERAL(8)
  mov %r9, %gs:GENERAL(9)
  mov %r12, %gs:GENERAL(12)
  mov %r13, %gs:GENERAL(13)
  mov %r14, %gs:GENERAL(14)
  mov %gs:CWS_HOST_RSP, %rsp
  .endm

  .text
  .globl cws_enter
  .type cws_enter, @function
cws_enter:
  push %rbx
  push %rbp
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, CWS_HOST_RSP(%rdi)
  stmxcsr CWS_HOST_MXCSR(%rdi)
  ldmxcsr CWS_MXCSR(%rdi)
  // Upper halves that hold nothing must be known to the processor as such: else each SSE instruction, which leaves them as
  // they are, waits for its destination's old value (measured: loops of SSE code take up to seven times as long).
  vmovups CWS_VECTOR + 16(%rdi), %xmm0
  .irp n, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
  vorps CWS_VECTOR + 16 + 32 * \n(%rdi), %xmm0, %xmm0
  .endr
  vptest %xmm0, %xmm0
  jnz 1f
  .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
  vmovups CWS_VECTOR + 32 * \n(%rdi), %xmm\n
  .endr
  vzeroupper
  jmp 2f
1:
  .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
  vmovups CWS_VECTOR + 32 * \n(%rdi), %ymm\n
  .endr
2:
cws_load:
  mov GENERAL(0)(%rdi), %r11
  mov GENERAL(1)(%rdi), %rcx
  mov GENERAL(2)(%rdi), %rdx
  mov GENERAL(3)(%rdi), %rbx
  mov GENERAL(5)(%rdi), %rbp
  mov GENERAL(6)(%rdi), %rsi
  mov GENERAL(8)(%rdi), %r8
  mov GENERAL(9)(%rdi), %r9
  mov GENERAL(12)(%rdi), %r12
  mov GENERAL(13)(%rdi), %r13
  mov GENERAL(14)(%rdi), %r14
  mov CWS_T1(%rdi), %r10
  mov CWS_T2(%rdi), %r15
  mov GENERAL(4)(%rdi), %rsp
  // The flags both in the host's and in RAX: whichever the code at the target expects.
  mov CWS_FLAGS(%rdi), %rax
  add $0x7f, %al
  sahf
  mov CWS_FLAGS(%rdi), %rax
  mov GENERAL(7)(%rdi), %rdi
  jmp *%gs:CWS_TARGET
  .size cws_enter, . - cws_enter

  .globl cws_exit_host_flags, cws_exit_rax_flags
  .type cws_exit_host_flags, @function
cws_exit_host_flags:
  lahf
  seto %al
cws_exit_rax_flags:
  SAVE_GENERAL
cws_leave:
  .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
  vmovups %ymm\n, %gs:CWS_VECTOR + 32 * \n
  .endr
  stmxcsr %gs:CWS_MXCSR
  ldmxcsr %gs:CWS_HOST_MXCSR
  vzeroupper
  cld
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbp
  pop %rbx
  ret
  .size cws_exit_host_flags, . - cws_exit_host_flags

  // From translated code to a helper that touches general registers only, and back to CWS_TARGET or out: the helper's number
  // is in HELPER, where translated code goes on in T2, the flags in RAX.
  .globl cws_call
  .type cws_call, @function
cws_call:
  mov %r15, %gs:CWS_TARGET
  SAVE_GENERAL
  // As on entry to cws_enter's own calls: a multiple of 16.
  sub $8, %rsp
  mov %gs:CWS_OWN, %rdi
  call cws_help
  add $8, %rsp
  test %eax, %eax
  jz cws_leave
  mov %gs:CWS_OWN, %rdi
  jmp cws_load
  .size cws_call, . - cws_call

  // The vector registers, as XSAVE has them: lower halves from RDI on, upper ones from RSI on.
  .globl cws_store_vectors
  .type cws_store_vectors, @function
cws_store_vectors:
  .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
  vmovups %xmm\n, 16 * \n(%rdi)
  vextractf128 $1, %ymm\n, 16 * \n(%rsi)
  .endr
  ret
  .size cws_store_vectors, . - cws_store_vectors

  // The same back. Upper halves that hold nothing: as on entry.
  .globl cws_load_vectors
  .type cws_load_vectors, @function
cws_load_vectors:
  vmovups (%rsi), %xmm0
  .irp n, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
  vorps 16 * \n(%rsi), %xmm0, %xmm0
  .endr
  vptest %xmm0, %xmm0
  jnz 1f
  .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
  vmovups 16 * \n(%rdi), %xmm\n
  .endr
  vzeroupper
  ret
1:
  .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
  vmovups 16 * \n(%rdi), %xmm\n
  vinsertf128 $1, 16 * \n(%rsi), %ymm\n, %ymm\n
  .endr
  ret
  .size cws_load_vectors, . - cws_load_vectors

  .section .note.GNU-stack, "", @progbits
