// From one mode to another (AMD64 APM vol. 2, chapter 14; 5.3 for paging).

#include "guest.h"

// Real mode to protected mode to long mode, to compatibility mode with 32 and 16 bits, and all the way back.
guest modes_all, 16
  cli
  lgdtl %cs:20f - 99b + LOAD
  movl %cr0, %eax
  orl $1, %eax
  movl %eax, %cr0
  ljmpl $CODE32, $AT(1f)
  .code32
1:
  movl $DATA0, %eax
  movl %eax, %ds
  movl %eax, %es
  movl %eax, %ss
  movl %cs, %eax
  emit
  movl %cr4, %eax
  orl $0x20, %eax
  movl %eax, %cr4
  movl $PAGE_LEVEL4, %eax
  movl %eax, %cr3
  movl $0xc0000080, %ecx
  rdmsr
  orl $0x100, %eax
  wrmsr
  movl %cr0, %eax
  orl $0x80000000, %eax
  movl %eax, %cr0
  // LMA is set now, and this is compatibility mode.
  rdmsr
  andl $0x500, %eax
  emit
  ljmpl $CODE64, $AT(2f)
  .code64
2:
  movabsq $0x1122334455667788, %rax
  emit64
  // Compatibility mode, 32 bits: REX prefixes are INC and DEC again.
  pushq $CODE32
  pushq $AT(3f)
  lretq
  .code32
3:
  movl $5, %eax
  .byte 0x48
  emit
  ljmpl $CODE16, $AT(4f)
  .code16
4:
  // 16 bits: this is MOV AX, imm16.
  xorl %eax, %eax
  .byte 0xb8, 0x34, 0x12
  emit
  ljmpl $CODE32, $AT(5f)
  .code32
5:
  // Out of long mode: paging off first, then LME.
  movl %cr0, %eax
  andl $0x7fffffff, %eax
  movl %eax, %cr0
  movl $0xc0000080, %ecx
  rdmsr
  andl $~0x100, %eax
  wrmsr
  rdmsr
  andl $0x500, %eax
  emit
  // Real mode through 16-bit segments.
  ljmpl $CODE16, $AT(6f)
  .code16
6:
  movw $DATA16, %ax
  movw %ax, %ds
  movw %ax, %es
  movw %ax, %ss
  movl %cr0, %eax
  andl $~1, %eax
  movl %eax, %cr0
  ljmpw $0, $AT(7f)
7:
  xorw %ax, %ax
  movw %ax, %ds
  movw %ax, %es
  movw %ax, %ss
  movl %cs, %eax
  andl $0xffff, %eax
  emit
  arm 8f, 8f
  int $0x21
8:
  finish
  .balign 4
20:
  .word 0xbf
  .long GDT
endguest modes_all

// After a visit to protected mode the limit of a segment is still 4 GiB in real mode ("unreal mode").
guest modes_unreal, 16
  cli
  lgdtl %cs:20f - 99b + LOAD
  movl %cr0, %eax
  orb $1, %al
  movl %eax, %cr0
  movw $DATA0, %bx
  movw %bx, %fs
  andb $0xfe, %al
  movl %eax, %cr0
  movl $0x200000, %ebx
  movl $0x12345678, %fs:(%ebx)
  movl %fs:(%ebx), %eax
  emit
  // Loading the selector changes the base and nothing else.
  movw $0x10, %ax
  movw %ax, %fs
  movl %fs:-0x100(%ebx), %eax
  emit
  finish
  .balign 4
20:
  .word 0xbf
  .long GDT
endguest modes_unreal

// Between setting PE and the far jump it is protected mode with 16-bit code already: selectors are descriptors.
guest modes_before_jump, 16
  cli
  lgdtl %cs:20f - 99b + LOAD
  movl %cr0, %eax
  orb $1, %al
  movl %eax, %cr0
  movw $DATA0, %ax
  movw %ax, %ds
  movl $DATA, %ebx
  movl $0x5a5a5a5a, (%ebx)
  movl (%ebx), %eax
  emit
  smswl %eax
  andl $1, %eax
  emit
  finish
  .balign 4
20:
  .word 0xbf
  .long GDT
endguest modes_before_jump

// Compatibility mode: 32-bit operand and address size, no REX, no RIP-relative addresses, and the long-mode frame.
guest modes_compatibility, 32
  movl $1, DATA
  movl $0x10000, %eax
  .byte 0x40
  user_emit %eax
  arm 1f, 2f
1:
  ud2
2:
  // SYSENTER's and the rest of the 32-bit instructions are there.
  pushal
  popal
  movl %esp, %eax
  user_emit %eax
  user_finish
endguest modes_compatibility

// In compatibility mode an address wraps at 4 GiB.
guest modes_wrap, 32
  movl $0x5a, DATA
  movl $0xffffffff, %ebx
  movl DATA + 1(%ebx), %eax
  user_emit %eax
  user_finish
endguest modes_wrap

// Paging with LME but without PAE is refused.
guest modes_refused, 16
  movl $0xc0000080, %ecx
  rdmsr
  orl $0x100, %eax
  wrmsr
  movl %cr0, %eax
  orl $0x80000001, %eax
  arm 1f, 2f
1:
  movl %eax, %cr0
2:
  finish
endguest modes_refused

// 64-bit mode knows no limits and no bases but those of FS and GS.
guest modes_flat, 64
  movl $LIMITED, %eax
  movw %ax, %ds
  movw %ax, %es
  movl $0x1234, DATA
  movl DATA, %eax
  user_emit %rax
  // A null selector does no harm.
  xorl %eax, %eax
  movw %ax, %ds
  movl DATA, %eax
  user_emit %rax
  user_finish
endguest modes_flat

// FS and GS bases by their own instructions.
guest modes_segment_bases, 64
  movl $0x11, DATA
  movl $0x22, DATA + 0x1000
  movl $DATA, %eax
  wrfsbase %rax
  movl $DATA + 0x1000, %eax
  wrgsbase %rax
  movl %fs:0, %eax
  user_emit %rax
  movl %gs:0, %eax
  user_emit %rax
  rdfsbase %rax
  user_emit %rax
  // The 32-bit form clears the upper half.
  movabsq $0x7f0000000000 + DATA, %rax
  wrgsbase %eax
  rdgsbase %rax
  user_emit %rax
  user_finish
endguest modes_segment_bases

guest modes_segment_bases_noncanonical, 64
  movabsq $0x800000000000, %rax
  arm 1f, 2f
1:
  wrfsbase %rax
2:
  user_finish
endguest modes_segment_bases_noncanonical

guest modes_segment_bases_refused, 64
  arm 1f, 2f
1:
  rdfsbase %rax
2:
  user_finish
endguest modes_segment_bases_refused

// Loading a selector into FS loads the descriptor's base, 32 bits of it.
guest modes_segment_load, 64
  movl $0xc0000100, %ecx
  xorl %eax, %eax
  movl $0x1234, %edx
  wrmsr
  movw $DATA0, %ax
  movw %ax, %fs
  rdmsr
  emit
  emit_value %edx
  finish
endguest modes_segment_load

// More combinations of control bits and code segments than a translator can keep code for at once, in an order that is
// another one in each round; STAC and CLAC between them. Code behind them must always be run as 64-bit code.
guest modes_many, 64
  movq %cr0, %rbx
  andl $~0xe, %ebx
  movq %cr4, %rbp
  xorl %r12d, %r12d
  movl $2047, %r13d
  movl $32, %r15d
1:
  imull $1103515245, %r13d, %r13d
  addl $12345, %r13d
  // CR0.MP, EM and TS and CR4.OSFXSR by the bits of a counter.
  movl %r13d, %r14d
  shrl $16, %r14d
  andl $15, %r14d
2:
  testl %r14d, %r14d
  jz 3f
  movl %r14d, %eax
  andl $7, %eax
  leal (%rbx,%rax,2), %eax
  movq %rax, %cr0
  movl %r14d, %eax
  shrl $3, %eax
  shll $9, %eax
  xorq %rbp, %rax
  movq %rax, %cr4
  decl %r14d
  jmp 2b
3:
  movq %rbx, %cr0
  movq %rbp, %cr4
  .rept 2
  stac
  nop
  clac
  nop
  .endr
  // 16-bit code, 32-bit code, or both.
  testl $1 << 20, %r13d
  jnz 4f
  pushq $CODE16
  pushq $AT(9f)
  lretq
4:
  testl $1 << 21, %r13d
  jnz 5f
  pushq $CODE32
  pushq $AT(8f)
  lretq
5:
  stac
  xorl %eax, %eax
  // INC RAX; or DEC EAX, INC EAX.
  .byte 0x48, 0xff, 0xc0
  addl %eax, %r12d
  clac
  xorl %eax, %eax
  .byte 0x48, 0xff, 0xc0
  addl %eax, %r12d
  decl %r15d
  jnz 1b
  movl %r12d, %eax
  emit
  finish
  .code32
8:
  ljmpl $CODE64, $AT(5b)
  .code16
9:
  ljmpl $CODE64, $AT(4b)
endguest modes_many
