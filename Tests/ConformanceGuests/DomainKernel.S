// A kernel for Xen's paravirtual interface that runs the other guests as its user code, and keeps a record of every
// exception for the runner (DomainCaseMachine.swift, where the same numbers are).
//
//     0x500000  start_info, the rings, this kernel, what the runner tells it, its stack
//     0x510000  the records, one after the other
//
// User code reports, and ends, by stores to the page at USER_RESULT, which is not there: such a page fault is recorded with
// the instruction's bytes, and passed over. After every other exception the words EXPECTED and RESUME say where to go on,
// as in Handlers.S. A record's fields are words of 8 bytes:
//
//     0 vector (0x100: SYSCALL), error code, RIP, CS, RFLAGS, RSP, SS, EXPECTED, RESUME, CR2, 10 the sixteen registers,
//     26 bytes at RIP

#include "guest.h"

#define KERNEL 0x503000
#define IN_KERNEL(label) (label - 99b + KERNEL)
#define KERNEL_STACK 0x506000
#define RECORDS 0x510000
#define RECORD_SIZE 256
#define RECORD_LIMIT 3000

// What the runner tells: the user root's machine frame, RIP, RSP and RFLAGS to begin with. And how many records there are.
#define USER_ROOT 0x504000
#define START_RIP 0x504008
#define START_RSP 0x504010
#define START_RFLAGS 0x504018
#define RECORD_COUNT 0x504020

// Xen's public headers: hypercall numbers, selectors, DOMID_SELF, MMUEXT_NEW_USER_BASEPTR, SCHEDOP_shutdown.
#define SET_TRAP_TABLE 0
#define STACK_SWITCH 3
#define SET_CALLBACKS 4
#define IRET 23
#define MMUEXT_OP 26
#define SCHED_OP 29
#define XEN_CODE 0xe033
#define XEN_DATA 0xe02b
#define SELF 0x7ff0
#define NEW_USER_ROOT 15
#define SHUTDOWN 2

// As in Handlers.S.
#define HAS_ERROR_CODE_IN_DOMAIN \
  ((vector == 8) | ((vector >= 10) & (vector <= 14)) | (vector == 17) | (vector == 21) | (vector == 29) | (vector == 30))

guest domain_kernel, 64
  movq $IN_KERNEL(domain_traps), %rdi
  movl $SET_TRAP_TABLE, %eax
  syscall
  xorl %edi, %edi
  xorl %esi, %esi
  movq $IN_KERNEL(domain_system_call), %rdx
  movl $SET_CALLBACKS, %eax
  syscall
  movl $XEN_DATA, %edi
  movl $KERNEL_STACK, %esi
  movl $STACK_SWITCH, %eax
  syscall
  movq USER_ROOT, %rax
  pushq $0
  pushq %rax
  pushq $NEW_USER_ROOT
  movq %rsp, %rdi
  movl $1, %esi
  xorl %edx, %edx
  movl $SELF, %r10d
  movl $MMUEXT_OP, %eax
  syscall
  testq %rax, %rax
  jnz domain_end
  movl $KERNEL_STACK, %esp
  pushq $XEN_DATA
  pushq START_RSP
  pushq START_RFLAGS
  pushq $XEN_CODE
  pushq START_RIP
  pushq $0
  pushq $0
  pushq $0
  pushq $0
  .irp register, ebx, edx, esi, edi, ebp, r8d, r9d, r10d, r12d, r13d, r14d, r15d
  xorl %\register, %\register
  .endr
  movl $IRET, %eax
  syscall

domain_end:
  pushq $0
  movl $SHUTDOWN, %edi
  movq %rsp, %rsi
  movl $SCHED_OP, %eax
  syscall
  jmp domain_end

// Xen has pushed RCX and R11, an error code with some vectors, then the frame. The others get a zero there.
  .balign 16
domain_stubs:
  .set vector, 0
  .rept 32
    .balign 16
    .if HAS_ERROR_CODE_IN_DOMAIN
    pushq $vector
    jmp domain_common
    .else
    pushq $vector
    jmp domain_without_code
    .endif
    .set vector, vector + 1
  .endr
domain_system_call:
  pushq $0x100
domain_without_code:
  // vector, RCX, R11, RIP: room for one word behind R11.
  pushq (%rsp)
  movq 16(%rsp), %rcx
  movq %rcx, 8(%rsp)
  movq 24(%rsp), %rcx
  movq %rcx, 16(%rsp)
  movq $0, 24(%rsp)
domain_common:
  pushq %rax
  // RAX, vector, RCX, R11, error code, RIP, CS, RFLAGS, RSP, SS
  testb $3, 48(%rsp)
  jz domain_end
  movq RECORD_COUNT, %rcx
  cmpq $RECORD_LIMIT, %rcx
  jae domain_end
  incq RECORD_COUNT
  imulq $RECORD_SIZE, %rcx, %r11
  addq $RECORDS, %r11
  .set field, 0
  .irp place, 8, 32, 40, 48, 56, 64, 72
  movq \place(%rsp), %rcx
  movq %rcx, field(%r11)
  .set field, field + 8
  .endr
  movq EXPECTED, %rcx
  movq %rcx, 56(%r11)
  movl RESUME, %ecx
  movq %rcx, 64(%r11)
  movq %cr2, %rcx
  movq %rcx, 72(%r11)
  movq 16(%rsp), %rcx
  movq %rcx, 88(%r11)
  movq 24(%rsp), %rcx
  movq %rcx, 168(%r11)
  movq 64(%rsp), %rcx
  movq %rcx, 112(%r11)
  .set field, 80
  .irp register, rax, -, rdx, rbx, -, rbp, rsi, rdi, r8, r9, r10, -, r12, r13, r14, r15
  .ifnc \register, -
  movq %\register, field(%r11)
  .endif
  .set field, field + 8
  .endr
  cmpq $14, 8(%rsp)
  jne 3f
  movq 72(%r11), %rax
  subq $USER_RESULT, %rax
  cmpq $0x20, %rax
  jae 3f
  // A report. MOV of a register without REX is seven bytes long, the others eight.
  movq 40(%rsp), %rcx
  movq (%rcx), %rax
  movq %rax, 208(%r11)
  movzbl (%rcx), %eax
  cmpq $USER_FINISH, 72(%r11)
  je domain_end
  andb $0xfe, %al
  cmpb $0x88, %al
  movl $8, %eax
  jne 1f
  movl $7, %eax
1:
  addq %rax, 40(%rsp)
  jmp 4f
3:
  movl RESUME, %eax
  cmpl $RETURN, %eax
  jb domain_end
  je 4f
  movq %rax, 40(%rsp)
  andl $~0x100, 56(%rsp)
  movl $0, RESUME
4:
  // For iret: RAX, R11, RCX, no flags, RIP…
  movq 16(%rsp), %rax
  movq 24(%rsp), %rcx
  movq %rcx, 16(%rsp)
  movq %rax, 24(%rsp)
  movq $0, 32(%rsp)
  popq %rax
  movq %rax, (%rsp)
  movl $IRET, %eax
  syscall

// Vector, flags (the privilege level that may raise it by INT), code selector, address.
  .balign 8
domain_traps:
  .set vector, 0
  .rept 32
    .byte vector
    .byte ((vector == 3) | (vector == 4)) & 3
    .word XEN_CODE
    .long 0
    .quad IN_KERNEL(domain_stubs) + 16 * vector
    .set vector, vector + 1
  .endr
  .quad 0, 0
endguest domain_kernel
