// Code that is written by stores of each kind, code that is run from its middle, and page tables that change under the code
// that runs.

#include "guest.h"

#define ENTRY(address) PAGE_LEVEL1 + ((address) >> 9)

// Runs what is at DATA, by a direct call and by an indirect one (RBX is DATA).
.macro run_both
  .byte 0xe8
  .long DATA - AT(77f)
77:
  user_emit %rax
  xorl %eax, %eax
  call *%rbx
  user_emit %rax
.endm

// mov $imm32, %eax; ret: the immediate by a store of each size, by read-modify-writes, PUSH, STOS and MOVS.
guest code_sizes, 64
  movl $DATA, %ebx
  movabsq $0x9090c311111111b8, %rax
  movq %rax, (%rbx)
  run_both
  movb $0x22, 1(%rbx)
  run_both
  movw $0x3333, 2(%rbx)
  run_both
  movl $0x44444444, 1(%rbx)
  run_both
  movabsq $0x9090c355555555b8, %rax
  movq %rax, (%rbx)
  run_both
  movl $0x66666666, %eax
  xchgl %eax, 1(%rbx)
  run_both
  lock addb $1, 1(%rbx)
  run_both
  lock btcl $31, 1(%rbx)
  run_both
  movq %rsp, %rbp
  leaq 8(%rbx), %rsp
  movabsq $0x9090c377777777b8, %rax
  pushq %rax
  movq %rbp, %rsp
  run_both
  leaq 1(%rbx), %rdi
  movl $0x88888888, %eax
  stosl
  run_both
  leaq 1(%rbx), %rdi
  movl $4, %ecx
  movb $0x99, %al
  rep stosb
  run_both
  leaq 1(%rbx), %rdi
  movl $AT(8f), %esi
  movsl
  run_both
  movq %rbx, %rdi
  movl $AT(9f), %esi
  movl $1, %ecx
  rep movsq
  run_both
  user_finish
8:
  .long 0xaaaaaaaa
9:
  .quad 0x9090c3bbbbbbbbb8
endguest code_sizes

// The same by vector registers.
guest code_sizes_vector, 64
  movl $DATA, %ebx
  movups AT(8f), %xmm0
  movups %xmm0, (%rbx)
  run_both
  movups AT(9f), %xmm1
  movups %xmm1, (%rbx)
  run_both
  movl $0x33333333, %eax
  movd %eax, %xmm2
  movss %xmm2, 1(%rbx)
  run_both
  movq %xmm0, (%rbx)
  run_both
  user_finish
8:
  .quad 0x9090c311111111b8, 0
9:
  .quad 0x9090c322222222b8, 0
endguest code_sizes_vector

// REP MOVSB over the instruction behind it, which has run before: by its own address, then by another one of the page.
guest code_move, 64
  movl $4, %ebp
  xorl %ebx, %ebx
1:
  incb 8f + 1 - 99b + LOAD
  movl $AT(8f), %esi
  leaq AT(2f)(%rbx), %rdi
  movl $5, %ecx
  rep movsb
2:
  movl $0x11, %eax
  user_emit %rax
  xorl $0x28000, %ebx
  decl %ebp
  jnz 1b
  user_finish
8:
  movl $0x22, %eax
endguest code_move

// A jump into the middle of an instruction runs what the bytes there say, whatever ran before.
guest code_overlapping, 64
  movl $3, %ecx
1:
  movl $DATA, %ebx
  movabsq $0x90c300000005b8b8, %rax
  movq %rax, (%rbx)
  // The immediate's first byte is another mov; behind it lies a ret.
  leaq 1(%rbx), %rdx
  call *%rdx
  user_emit %rax
  // From the beginning: mov $0x000005b8, %eax, and then 00 c3 (add %al, %bl), nop, and what follows.
  movb $0xc3, 8(%rbx)
  pushq %rbx
  call *%rbx
  popq %rbx
  user_emit %rax
  leaq 6(%rbx), %rdx
  movl $0x77, %eax
  call *%rdx
  user_emit %rax
  subl $1, %ecx
  jnz 1b
  user_finish
endguest code_overlapping

#define LEVEL1_BY_ITSELF 0x60000

// The table of the first pages appears in the memory that it maps: entries are changed through it, its own too.
guest paging_onto_itself, 64
  movl $PAGE_LEVEL1 | 7, ENTRY(LEVEL1_BY_ITSELF)
  invlpg LEVEL1_BY_ITSELF
  movl $3, %ecx
1:
  movl $0x11110000, DATA
  movl $0x22220000, DATA + 0x1000
  movl DATA, %eax
  emit
  // The entry of DATA, through the mapping.
  movl $(DATA + 0x1000) | 7, LEVEL1_BY_ITSELF + (DATA >> 9)
  invlpg DATA
  movl DATA, %eax
  emit
  movl $0x33330000, DATA
  movl DATA + 0x1000, %eax
  emit
  movl $DATA | 7, LEVEL1_BY_ITSELF + (DATA >> 9)
  invlpg DATA
  // Read-only to itself: the store is refused, then allowed again by the address that the table has else.
  movl $PAGE_LEVEL1 | 5, LEVEL1_BY_ITSELF + (LEVEL1_BY_ITSELF >> 9)
  invlpg LEVEL1_BY_ITSELF
  movq %cr0, %rax
  orl $0x10000, %eax
  movq %rax, %cr0
  arm 2f, 3f
2:
  movl $0, LEVEL1_BY_ITSELF + (DATA >> 9)
3:
  movl $PAGE_LEVEL1 | 7, ENTRY(LEVEL1_BY_ITSELF)
  invlpg LEVEL1_BY_ITSELF
  movl LEVEL1_BY_ITSELF + (DATA >> 9), %eax
  andl $~0x60, %eax
  emit
  subl $1, %ecx
  jnz 1b
  finish
endguest paging_onto_itself

// Rights taken and given while code uses the page, and another page behind the same address.
guest paging_flips, 64
  movq %cr0, %rax
  orl $0x10000, %eax
  movq %rax, %cr0
  movl $4, %ebx
1:
  // Writable, then not.
  movl $DATA | 7, ENTRY(DATA)
  invlpg DATA
  movl %ebx, DATA
  movl $DATA | 5, ENTRY(DATA)
  invlpg DATA
  arm 2f, 3f
2:
  movl $0x99, DATA
3:
  movl DATA, %eax
  emit
  // Not there, then there again.
  movl $DATA | 6, ENTRY(DATA)
  invlpg DATA
  arm 4f, 5f
4:
  movl DATA, %eax
5:
  movl $DATA | 7, ENTRY(DATA)
  movl DATA, %eax
  emit
  // Without a flush a read finds the same bytes by the old rights or the new ones.
  movl $DATA | 5, ENTRY(DATA)
  movl DATA, %eax
  movl $DATA | 7, ENTRY(DATA)
  addl DATA, %eax
  emit
  movl $DATA | 7, ENTRY(DATA)
  invlpg DATA
  movl $0x55, DATA
  movl DATA, %eax
  emit
  // Code: another page behind the same address.
  movl $0x0011b8, DATA
  movw $0xc300, DATA + 4
  movl $0x0022b8, DATA + 0x1000
  movw $0xc300, DATA + 0x1004
  movl $DATA, %edx
  call *%rdx
  emit
  movl $(DATA + 0x1000) | 7, ENTRY(DATA)
  invlpg DATA
  call *%rdx
  emit
  .byte 0xe8
  .long DATA - AT(6f)
6:
  emit
  movl $DATA | 7, ENTRY(DATA)
  invlpg DATA
  call *%rdx
  emit
  .byte 0xe8
  .long DATA - AT(6f)
6:
  emit
  decl %ebx
  jnz 1b
  finish
endguest paging_flips

// Code that is stored to through a large page, which was written through before it was run; then by a store that begins on the page
// before, through either mapping. Linear 0x40000000 + x is physical x.
guest code_alias_large, 64
  movl $3, %ebp
  movl $0x51000, %ebx
1:
  leaq 0x40000000(%rbx), %rdi
  movl $0x11b8, (%rdi)
  movw $0xc300, 4(%rdi)
  call *%rbx
  user_emit %rax
  movb $0x22, 1(%rdi)
  call *%rbx
  user_emit %rax
  movabsq $0x33b8000000, %rax
  movq %rax, -3(%rbx)
  call *%rbx
  user_emit %rax
  movabsq $0x44b8000000, %rax
  movq %rax, -3(%rdi)
  call *%rbx
  user_emit %rax
  addl $0x2000, %ebx
  decl %ebp
  jnz 1b
  user_finish
endguest code_alias_large
