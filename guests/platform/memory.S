// The functions that compilers call without being asked, as string instructions: one instruction each where
// instructions are dear.
  .text
  .globl memset, memcpy, memmove
memset:
  mov %rdi, %r8
  mov %rdx, %rcx
  mov %esi, %eax
  rep stosb
  mov %r8, %rax
  ret

memmove:
  mov %rdi, %rax
  sub %rsi, %rax
  cmp %rdx, %rax
  jae memcpy  // does not overlap, or overlaps downwards
  mov %rdi, %rax
  mov %rdx, %rcx
  lea -1(%rdi,%rdx), %rdi
  lea -1(%rsi,%rdx), %rsi
  std
  rep movsb
  cld
  ret

memcpy:
  mov %rdi, %rax
  mov %rdx, %rcx
  rep movsb
  ret
