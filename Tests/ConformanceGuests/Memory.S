// Instructions that touch memory in ways of their own, code that changes itself, and the stops of a running guest.

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
guest memory_newer, 64
  movl $0x12345678, DATA
  movbel DATA, %eax
  user_emit %rax
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

// The stop request comes while nothing but a jump to itself runs.
guest stop_loop, 64
  user_event EVENT_STOP | EVENT_LATER
1:
  jmp 1b
endguest stop_loop

guest stop_loop_16, 16
  cli
  event EVENT_STOP | EVENT_LATER
1:
  jmp 1b
endguest stop_loop_16

// While one instruction has very much to do.
guest stop_rep, 64
  cld
  movl $0x600000, %esi
  movabsq $0x10000000000, %rcx
  user_event EVENT_STOP | EVENT_LATER
  rep lodsb
endguest stop_rep

// While it sleeps.
guest stop_halt, 64
  event EVENT_STOP | EVENT_LATER
  sti
1:
  hlt
  jmp 1b
endguest stop_halt

// The runner looks at the registers, changes some, and lets it go on.
guest stop_state, 64
  movl $0x11, %r8d
  movl $0x22, %r15d
  movl $0x33, %ebp
  user_event EVENT_STOP
  nop
  user_emit %r8
  user_emit %r15
  user_emit %rbp
  user_emit %rsp
  user_finish
endguest stop_state

guest stop_many, 64
  movl $20, %ecx
1:
  user_event EVENT_STOP
  subl $1, %ecx
  jnz 1b
  user_emit %rcx
  user_finish
endguest stop_many

// What the runner reads at the end: every register has a value of its own.
guest state_general, 64
  movl $1, %ecx
  movl $2, %edx
  movl $3, %ebx
  movl $4, %ebp
  movl $5, %esi
  movl $6, %edi
  movl $8, %r8d
  movl $9, %r9d
  movl $10, %r10d
  movl $11, %r11d
  movl $12, %r12d
  movl $13, %r13d
  movl $14, %r14d
  movabsq $0x1122334455667788, %r15
  stc
  user_finish 7
  nop
endguest state_general

// The same for an OUT.
guest state_port, 64
  finish 7
  nop
endguest state_port

// What the runner wrote before the start arrives.
guest state_written, 64
  user_emit %rax
  user_emit %rbx
  user_emit %rsi
  user_emit %r9
  user_emit %r14
  pushfq
  popq %rax
  andl $0x8d5, %eax
  user_emit %rax
  user_finish
endguest state_written

guest state_system, 64
  movq %cr2, %rax
  emit64
  movq %dr0, %rax
  emit64
  movl $0xc0000102, %ecx
  rdmsr
  emit
  emit_value %edx
  movl $0xc0000082, %ecx
  rdmsr
  emit
  movl $0x277, %ecx
  rdmsr
  emit
  movl %fs:0, %eax
  emit
  movq %cr8, %rax
  emit64
  sgdt DATA + 0x100
  movzwl DATA + 0x100, %eax
  emit
  finish
endguest state_system

guest state_vector, 64
  movups %xmm1, DATA
  movq DATA, %rax
  user_emit %rax
  stmxcsr DATA
  movl DATA, %eax
  user_emit %rax
  fnstcw DATA
  movzwl DATA, %eax
  user_emit %rax
  vmovups %ymm1, DATA
  movq DATA + 24, %rax
  user_emit %rax
  user_event EVENT_STOP
  vmovups %ymm2, DATA
  movq DATA, %rax
  user_emit %rax
  movq DATA + 24, %rax
  user_emit %rax
  user_finish
endguest state_vector

// An event that is pending at the start is delivered before the first instruction.
guest state_pending, 64
1:
  nop
2:
  finish
endguest state_pending
