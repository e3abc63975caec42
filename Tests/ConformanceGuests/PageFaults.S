// Page faults and their error codes (AMD64 APM vol. 2, 8.4.2): P 1, W/R 2, U/S 4, RSV 8, I/D 16.
//
// The cases prepare the page at 0x30000 before the start; one guest then serves several of them.

#include "guest.h"

#define PAGE 0x30000

guest page_fault_read, 64
  movl $PAGE + 0x123, %ebx
  arm 1f, 2f
1:
  movl (%rbx), %eax
2:
  user_finish
endguest page_fault_read

guest page_fault_write, 64
  movl $PAGE + 0x123, %ebx
  movl $1, %eax
  arm 1f, 2f
1:
  movl %eax, (%rbx)
2:
  user_finish
endguest page_fault_write

// A read-modify-write faults as a write, whatever comes first.
guest page_fault_modify, 64
  movl $PAGE + 0x123, %ebx
  arm 1f, 2f
1:
  addl $1, (%rbx)
2:
  user_finish
endguest page_fault_modify

// The fault is at the target, not at the jump.
guest page_fault_fetch, 64
  movl $PAGE, EXPECTED
  movl $AT(2f), RESUME
  movl $PAGE, %ebx
  jmp *%rbx
2:
  user_finish
endguest page_fault_fetch

// Four bytes before the page and four in it: CR2 is the first byte that faults, and nothing was stored.
guest page_fault_crossing, 64
  movl $PAGE - 4, %ebx
  movabsq $0x1122334455667788, %rax
  arm 1f, 2f
1:
  movq %rax, (%rbx)
2:
  movl -4(%rbx), %eax
  user_emit %rax
  movl (%rbx), %eax
  user_emit %rax
  user_finish
endguest page_fault_crossing

// A string instruction that faults in the middle has done all elements before.
guest page_fault_string, 64
  cld
  movl $PAGE - 8, %edi
  movl $5, %ecx
  movl $0x41414141, %eax
  arm 1f, 2f
1:
  rep stosl
2:
  user_emit %rcx
  user_emit %rdi
  user_finish
endguest page_fault_string

// PUSH that faults leaves RSP alone.
guest page_fault_push, 64
  movq %rsp, %r8
  movl $PAGE + 0x1000, %esp
  arm 1f, 2f
1:
  pushq %rax
2:
  movq %rsp, %r9
  movq %r8, %rsp
  user_emit %r9
  user_finish
endguest page_fault_push

// POP to a page that is not there leaves RSP alone too.
guest page_fault_pop, 64
  movl $PAGE, %ebx
  movq %rsp, %r8
  pushq $1
  movq %rsp, %r10
  arm 1f, 2f
1:
  popq (%rbx)
2:
  movq %rsp, %r9
  movq %r8, %rsp
  subq %r10, %r9
  user_emit %r9
  user_finish
endguest page_fault_pop

// After the handler maps the page, the instruction runs again as if nothing had been.
guest page_fault_repair, 64
  movl $PAGE, %ebx
  movl $7, %ecx
  xaddl %ecx, (%rbx)
  emit_value %ecx
  emit_value (%rbx)
  finish
endguest page_fault_repair

guest page_fault_repair_handler, 64
  movl $PAGE | 7, PAGE_LEVEL1 + (PAGE >> 12) * 8
  movq %cr2, %rax
  emit64
  addq $8, %rsp
  iretq
endguest page_fault_repair_handler
