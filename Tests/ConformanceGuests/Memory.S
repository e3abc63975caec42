// Instructions that touch memory in ways of their own, and code that changes itself.

#include "guest.h"

// MOVS in both directions, overlapping; the widths 1 to 8.
guest memory_move, 64
  cld
  movabsq $0x0807060504030201, %rax
  movq %rax, DATA
  // Forwards with an overlap of one byte: the first byte spreads.
  movl $DATA, %esi
  movl $DATA + 1, %edi
  movl $7, %ecx
  rep movsb
  movq DATA, %rax
  user_emit %rax
  movabsq $0x0807060504030201, %rax
  movq %rax, DATA
  std
  movl $DATA + 6, %esi
  movl $DATA + 7, %edi
  movl $7, %ecx
  rep movsb
  cld
  movq DATA, %rax
  user_emit %rax
  user_emit %rsi
  // Across a page, eight bytes at a time.
  movl $DATA, %esi
  movl $DATA + 0xffc, %edi
  movl $2, %ecx
  rep movsq
  movq DATA + 0xffc, %rax
  user_emit %rax
  user_emit %rdi
  user_finish
endguest memory_move

// Comparing stops at the first difference, scanning at the first match; a count of zero leaves the flags.
guest memory_compare, 64
  cld
  movl $0x44434241, DATA
  movl $0x44ff4241, DATA + 16
  movl $DATA, %esi
  movl $DATA + 16, %edi
  movl $4, %ecx
  repe cmpsb
  setb %al
  movzbl %al, %eax
  user_emit %rax
  user_emit %rcx
  user_emit %rsi
  movl $DATA, %edi
  movl $4, %ecx
  movb $0x43, %al
  repne scasb
  user_emit %rcx
  user_emit %rdi
  xorl %ecx, %ecx
  stc
  repe cmpsb
  setc %al
  movzbl %al, %eax
  user_emit %rax
  user_finish
endguest memory_compare

// Aligned or not, within a page or over two.
guest memory_unaligned, 64
  movabsq $0x1122334455667788, %rax
  movq %rax, DATA + 0xffb
  movl DATA + 0xffd, %eax
  user_emit %rax
  movzwl DATA + 0xfff, %eax
  user_emit %rax
  lock addq $1, DATA + 0xffb
  movq DATA + 0xffb, %rax
  user_emit %rax
  user_finish
endguest memory_unaligned

guest memory_exchange, 64
  movabsq $0x1122334455667788, %rax
  movq %rax, DATA
  movl $0x55667788, %eax
  movl $0x11223344, %edx
  movl $0xaaaaaaaa, %ebx
  movl $0xbbbbbbbb, %ecx
  lock cmpxchg8b DATA
  setz %al
  movzbl %al, %eax
  user_emit %rax
  movq DATA, %rax
  user_emit %rax
  // A mismatch loads what is there.
  lock cmpxchg8b DATA
  setz %sil
  movzbl %sil, %esi
  user_emit %rsi
  user_emit %rax
  user_emit %rdx
  movl $5, DATA
  movl $7, %eax
  lock xaddl %eax, DATA
  user_emit %rax
  movl DATA, %eax
  user_emit %rax
  xchgl %eax, DATA
  lock btsl $4, DATA
  setc %al
  movzbl %al, %eax
  user_emit %rax
  movl DATA, %eax
  user_emit %rax
  user_finish
endguest memory_exchange

guest memory_exchange16, 64
  movl $1, DATA
  movl $2, DATA + 8
  movl $1, %eax
  movl $2, %edx
  movl $3, %ebx
  movl $4, %ecx
  lock cmpxchg16b DATA
  setz %al
  movzbl %al, %eax
  user_emit %rax
  movq DATA, %rax
  user_emit %rax
  movq DATA + 8, %rax
  user_emit %rax
  arm 1f, 2f
1:
  lock cmpxchg16b DATA + 8
2:
  user_finish
endguest memory_exchange16

// A bit offset reaches beyond the operand, in both directions.
guest memory_bits, 64
  movq $0, DATA
  movq $0, DATA + 8
  movl $70, %eax
  btsq %rax, DATA
  movq DATA + 8, %rax
  user_emit %rax
  movl $-1, %eax
  btsl %eax, DATA + 4
  movl DATA, %eax
  user_emit %rax
  user_finish
endguest memory_bits

// PUSH RSP pushes the old value; POP to memory through RSP uses the new one; POP RSP loads it.
guest memory_stack, 64
  movq %rsp, %rbx
  pushq %rsp
  popq %rax
  subq %rbx, %rax
  user_emit %rax
  pushq $0x77
  pushq $0x55
  popq (%rsp)
  popq %rax
  user_emit %rax
  pushq %rbx
  popq %rsp
  movq %rsp, %rax
  subq %rbx, %rax
  user_emit %rax
  pushw $0x1234
  movq %rsp, %rax
  subq %rbx, %rax
  user_emit %rax
  popw %ax
  pushq $-1
  popq %rax
  user_emit %rax
  movq %rsp, %rbp
  enter $0x20, $0
  movq %rsp, %rax
  subq %rbx, %rax
  user_emit %rax
  leave
  enter $0, $2
  leave
  movq %rsp, %rax
  subq %rbx, %rax
  user_emit %rax
  user_finish
endguest memory_stack

// RIP-relative; with the address-size prefix the sum is cut to 32 bits; an index can be negative.
guest memory_addressing, 64
  movl 1f(%rip), %eax
  user_emit %rax
  movabsq $0xffffffff00000000 + DATA, %rbx
  movl $0x1234, DATA
  addr32 movl (%ebx), %eax
  user_emit %rax
  movl $-4, %ecx
  movl $DATA + 16, %ebx
  movl (%ebx,%ecx,4), %eax
  user_emit %rax
  movslq %ecx, %rcx
  movl (%rbx,%rcx,4), %eax
  user_emit %rax
  addr32 leaq -1(%rip), %rax
2:
  subq $AT(2b), %rax
  user_emit %rax
  leal -1(%rcx), %eax
  user_emit %rax
  movabsl DATA, %eax
  user_emit %rax
  jmp 3f
1:
  .long 0x5a5a5a5a
3:
  user_finish
endguest memory_addressing

// XLAT, and a 32-bit result that clears the upper half where a 16-bit one keeps it.
guest memory_partial, 64
  movl $DATA, %ebx
  movb $0x66, DATA + 5
  movl $5, %eax
  xlatb
  movzbl %al, %eax
  user_emit %rax
  orq $-1, %rax
  movw $0, %ax
  user_emit %rax
  orq $-1, %rax
  movl $0, %eax
  user_emit %rax
  orq $-1, %rax
  movb $0, %ah
  user_emit %rax
  // CMOV with a false condition still clears the upper half, and still reads.
  orq $-1, %rax
  xorl %ecx, %ecx
  cmovnzl DATA, %eax
  user_emit %rax
  user_finish
endguest memory_partial

// Bit manipulation and counting of the newer levels.
// MOVBE, which not every processor of the rest's age has.
guest memory_swapped, 64
  movl $0x12345678, DATA
  arm 1f, 2f
1:
  movbel DATA, %eax
  user_emit %rax
2:
  user_finish
endguest memory_swapped

guest memory_newer, 64
  movl $0x12345678, DATA
  popcntl DATA, %eax
  user_emit %rax
  lzcntl DATA, %eax
  user_emit %rax
  tzcntl DATA, %eax
  user_emit %rax
  movl $0xff0, %ecx
  pextl DATA, %ecx, %eax
  user_emit %rax
  andnl DATA, %ecx, %eax
  user_emit %rax
  xorl %eax, %eax
  crc32l DATA, %eax
  user_emit %rax
  user_finish
endguest memory_newer

// Code that is written and then jumped to, with no further ado.
guest code_written, 64
  // mov $0x42, %eax; ret
  movl $0x000042b8, DATA
  movw $0xc300, DATA + 4
  movl $DATA, %ebx
  call *%rbx
  user_emit %rax
  movb $0x43, DATA + 1
  call *%rbx
  user_emit %rax
  user_finish
endguest code_written

// A store into the very next instruction: the new bytes run.
guest code_next, 64
  movb $0x43, 1f + 1 - 99b + LOAD
1:
  movl $0x42, %eax
  user_emit %rax
  user_finish
endguest code_next

// The same in a loop, where the code has run before.
guest code_next_loop, 64
  movl $3, %ecx
2:
  incb 3f + 1 - 99b + LOAD
3:
  movl $0x10, %eax
  user_emit %rax
  subl $1, %ecx
  jnz 2b
  user_finish
endguest code_next_loop

// By a string instruction, on the page it runs on.
guest code_string, 64
  cld
  movl $AT(1f), %edi
  movl $4, %ecx
  movb $0x90, %al
  rep stosb
1:
  ud2
  ud2
  user_emit %rcx
  user_finish
endguest code_string

// Through another linear address of the same physical page.
guest code_alias, 64
  movl $0x30000, %ebx
  movl $2, %ecx
1:
  movl $0x10, %eax
  user_emit %rax
  movb $0x77, 1b + 1 - 99b(%rbx)
  subl $1, %ecx
  jnz 1b
  user_finish
endguest code_alias

// An instruction that lies on two pages, of which the second changes.
guest code_crossing, 64
  movl $0x30ffd, %ebx
  movb $0xb8, (%rbx)
  movl $0x11223344, 1(%rbx)
  movb $0xc3, 5(%rbx)
  call *%rbx
  user_emit %rax
  movb $0x99, 4(%rbx)
  call *%rbx
  user_emit %rax
  movl $0x9a, 1(%rbx)
  call *%rbx
  user_emit %rax
  user_finish
endguest code_crossing
