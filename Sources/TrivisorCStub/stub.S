// All code that is in a sandboxed process beside the guest's own.
//
// The process begins here, executed from an ELF image of one page that the monitor makes around this code, so nothing of
// the monitor was ever in its address space. It maps the two shared pieces, unmaps everything else (stack, vDSO), makes
// one thread for each virtual CPU and becomes the mapper itself.
//
//     mapper         has descriptors; its filter allows mmap of guest RAM, munmap, and reading and writing one eventfd each
//     guest threads  have none; their filter turns every system call into a trap (SIGSYS), but for futex on the shared
//                    words and rt_sigreturn, and these only when made from this page
//
// The guest can jump into this page with any registers, and can overwrite everything that is writable at any moment,
// from another thread too. So the mapper keeps all it has in registers and reads only what the monitor alone can write;
// and what the guest threads run here can do no more than what the guest could do to itself.
//
// Read-only data in the monitor: it is never executed there.

#include "include/layout.h"

#define SYS_read 0
#define SYS_write 1
#define SYS_close 3
#define SYS_mmap 9
#define SYS_munmap 11
#define SYS_rt_sigaction 13
#define SYS_rt_sigprocmask 14
#define SYS_rt_sigreturn 15
#define SYS_clone 56
#define SYS_sigaltstack 131
#define SYS_modify_ldt 154
#define SYS_futex 202
#define SYS_exit_group 231
#define SYS_seccomp 317
#define SYS_close_range 436

// ucontext_t and siginfo_t of x86-64 (Linux, arch/x86/include/uapi/asm/{ucontext,sigcontext}.h), and what is compared.
#define CONTEXT_GENERAL 40
#define CONTEXT_RDI 104
#define CONTEXT_RSI 112
#define CONTEXT_RAX 144
#define CONTEXT_RIP 168
#define CONTEXT_RFLAGS 176
#define CONTEXT_ERROR 192
#define INFO_CODE 8
#define INFO_ADDRESS 16
#define INFO_CALL_ADDRESS 16
#define INFO_ARCHITECTURE 28
#define SIGSEGV 11
#define SIGSYS 31
#define SEGV_MAPERR 1
#define AUDIT_ARCH_X86_64 0xc000003e
#define XEN_SET_SEGMENT_BASE 25

// Of a page fault's error code: a store, or a fetch. Of RFLAGS: TF.
#define ERROR_STORE_OR_FETCH 0x12
#define FLAG_TRAP 0x100
// REX.W 8B /r: MOV of a quadword into a register. It has at most eight bytes.
#define REX_W 0x48
#define REX_W_MASK 0xf8
#define OPCODE_LOAD 0x8b
#define LONGEST_LOAD 8

#define MAP_SHARED_FIXED 0x11
#define SIG_SETMASK 2
// VM, FS, SIGHAND, THREAD, SYSVSEM, PARENT_SETTID; not FILES: each guest thread has a descriptor table of its own.
#define CLONE_FLAGS 0x00150b00

  .section .rodata
  .balign 16
  .globl cstub_code_start, cstub_code_end, cstub_handler, cstub_handler_with_keys
cstub_code_start:

// r12: the configuration, r13: the frames, r14: how many guest threads.
  movabs $CSTUB_CONFIGURATION, %r12
  movabs $CSTUB_FRAMES, %r13
  mov $SYS_mmap, %eax
  mov %r12, %rdi
  mov $CSTUB_CONFIGURATION_SIZE, %esi
  mov $1, %edx
  mov $MAP_SHARED_FIXED, %r10d
  mov $CSTUB_FD_SHARED, %r8d
  xor %r9d, %r9d
  syscall
  cmp %r12, %rax
  jne fail
  mov CSTUB_CONF_THREADS(%r12), %r14d
  lea 1(%r14), %esi
  imul $CSTUB_AREA_SIZE, %esi, %esi
  mov %rsi, %r15
  mov $SYS_mmap, %eax
  mov %r13, %rdi
  mov $3, %edx
  mov $CSTUB_CONFIGURATION_SIZE, %r9d
  syscall
  cmp %r13, %rax
  jne fail

  mov $SYS_munmap, %eax
  xor %edi, %edi
  movabs $CSTUB_CODE, %rsi
  syscall
  test %rax, %rax
  jnz fail
  mov $SYS_munmap, %eax
  lea (%r13,%r15), %rdi
  movabs $CSTUB_ADDRESS_SPACE_END, %rsi
  sub %rdi, %rsi
  syscall
  test %rax, %rax
  jnz fail
  mov $SYS_close, %eax
  mov $CSTUB_FD_SHARED, %edi
  syscall

  mov CSTUB_CONF_WINDOW_SIZE(%r12), %rsi
  test %rsi, %rsi
  jz 10f
  mov $SYS_mmap, %eax
  movabs $CSTUB_WINDOW, %rdi
  mov %rdi, %rbx
  mov $1, %edx
  mov $MAP_SHARED_FIXED, %r10d
  mov $CSTUB_FD_MEMORY, %r8d
  mov CSTUB_CONF_WINDOW_OFFSET(%r12), %r9
  syscall
  cmp %rbx, %rax
  jne fail
10:

  lea CSTUB_CONF_SIGNALS(%r12), %rbx
1:
  movzbl (%rbx), %edi
  test %edi, %edi
  jz 2f
  mov $SYS_rt_sigaction, %eax
  lea CSTUB_CONF_ACTION(%r12), %rsi
  xor %edx, %edx
  mov $8, %r10d
  syscall
  test %rax, %rax
  jnz fail
  inc %rbx
  jmp 1b
2:
  mov $SYS_rt_sigprocmask, %eax
  mov $SIG_SETMASK, %edi
  lea CSTUB_CONF_ALL(%r12), %rsi
  xor %edx, %edx
  mov $8, %r10d
  syscall

// Segments for 32-bit code, one table for the whole process. rbx: how many, r15: the descriptor.
  mov CSTUB_CONF_SEGMENT_COUNT(%r12), %ebx
  lea CSTUB_CONF_SEGMENTS(%r12), %r15
8:
  test %ebx, %ebx
  jz 9f
  mov $SYS_modify_ldt, %eax
  mov $1, %edi
  mov %r15, %rsi
  mov $CSTUB_SEGMENT_SIZE, %edx
  syscall
  test %eax, %eax
  jnz fail
  add $CSTUB_SEGMENT_SIZE, %r15
  dec %ebx
  jmp 8b
9:

// One thread for each area behind the mapper's own. rbx: the area.
  lea CSTUB_AREA_SIZE(%r13), %rbx
3:
  test %r14d, %r14d
  jz mapper
  mov $SYS_clone, %eax
  mov $CLONE_FLAGS, %edi
  lea CSTUB_AREA_SIZE(%rbx), %rsi
  lea CSTUB_AREA_TID(%rbx), %rdx
  xor %r10d, %r10d
  xor %r8d, %r8d
  syscall
  test %rax, %rax
  js fail
  jz guest_thread
  add $CSTUB_AREA_SIZE, %rbx
  dec %r14d
  jmp 3b

mapper:
  mov $SYS_seccomp, %eax
  mov $1, %edi
  xor %esi, %esi
  lea CSTUB_CONF_MAPPER_FILTER(%r12), %rdx
  syscall
  test %rax, %rax
  jnz fail
// What is read has no meaning, so it does not matter that the guest can overwrite it.
wait_for_requests:
  mov $SYS_read, %eax
  mov $CSTUB_FD_REQUEST, %edi
  mov %r13, %rsi
  mov $8, %edx
  syscall
  cmp $8, %rax
  jne fail
  mov CSTUB_CONF_REQUESTS(%r12), %ebx
  lea CSTUB_CONF_TABLE(%r12), %r14
  xor %ebp, %ebp
4:
  test %ebx, %ebx
  jz 6f
  mov 8(%r14), %rdi
  mov 16(%r14), %rsi
  mov $SYS_munmap, %eax
  cmpq $0, (%r14)
  je 5f
  mov $SYS_mmap, %eax
  mov 24(%r14), %rdx
  mov $MAP_SHARED_FIXED, %r10d
  mov $CSTUB_FD_MEMORY, %r8d
  mov 32(%r14), %r9
5:
  syscall
  cmp $-4095, %rax
  jae 7f
  add $CSTUB_REQUEST_SIZE, %r14
  dec %ebx
  jmp 4b
7:
  mov %eax, %ebp
  neg %ebp
6:
  mov $SYS_write, %eax
  mov $CSTUB_FD_DONE, %edi
  lea CSTUB_CONF_RESULTS(%r12,%rbp,8), %rsi
  mov $8, %edx
  syscall
  cmp $8, %rax
  je wait_for_requests
fail:
  ud2  // SIGILL with all signals blocked: the process dies and the monitor is told

guest_thread:
  mov $SYS_close_range, %eax
  xor %edi, %edi
  mov $-1, %esi
  xor %edx, %edx
  syscall
  test %rax, %rax
  jnz fail
  mov $SYS_sigaltstack, %eax
  lea CSTUB_AREA_STACK(%rbx), %rdi
  xor %esi, %esi
  syscall
  test %rax, %rax
  jnz fail
  mov $SYS_rt_sigprocmask, %eax
  mov $SIG_SETMASK, %edi
  lea CSTUB_CONF_NONE(%r12), %rsi
  xor %edx, %edx
  mov $8, %r10d
  syscall
  mov $SYS_seccomp, %eax
  mov $1, %edi
  xor %esi, %esi
  lea CSTUB_CONF_GUEST_FILTER(%r12), %rdx
  syscall
  test %rax, %rax
  jnz exit_without_filter
// The first trap: the monitor fills the frame with the guest's registers. On AMD's processors it is #UD. Where SYSENTER works, the
// kernel reads the stack that EBP names, can't, and returns to where the vDSO was: so the monitor learns that address.
  xor %ebp, %ebp
  sysenter

// Here a trap would be taken for the first one, and guest code would run with the host's system calls.
exit_without_filter:
  mov $SYS_exit_group, %eax
  mov $1, %edi
  syscall
  jmp exit_without_filter

// Every trap: the kernel has put the guest's registers on this thread's alternate stack, which the monitor sees. Signal
// number in EDI, siginfo in RSI, context in RDX.
//
// Hosts with protection keys enter here: guest code may have denied itself key 0, which all memory has, by WRPKRU or
// XRSTOR. Nothing is loaded or stored before that is undone.
  .balign 64
cstub_handler_with_keys:
  mov %rdx, %r8
  xor %eax, %eax
  xor %ecx, %ecx
  xor %edx, %edx
  wrpkru
  mov %r8, %rdx
cstub_handler:
  pushq $2
  popfq  // AC above all, which signal delivery leaves as the guest had it
  mov %rsp, %r13
  mov %rsp, %rbx
  and $-CSTUB_AREA_SIZE, %rbx
  cmp $SIGSYS, %edi
  je system_call
  cmp $SIGSEGV, %edi
  je access_fault
hand_over:
  mov %edi, CSTUB_AREA_SIGNAL(%rbx)
  mov %rsi, CSTUB_AREA_SIGINFO(%rbx)
  mov %rdx, CSTUB_AREA_CONTEXT(%rbx)
  rdfsbase %rax
  mov %rax, CSTUB_AREA_FS_BASE(%rbx)
  rdgsbase %rax
  mov %rax, CSTUB_AREA_GS_BASE(%rbx)
  mov $1, %eax
  xchg %eax, CSTUB_AREA_TURN(%rbx)
  cmpl $0, CSTUB_AREA_MONITOR_SLEEPS(%rbx)
  je 1f
  mov $SYS_futex, %eax
  mov %rbx, %rdi
  mov $1, %esi  // FUTEX_WAKE
  mov $1, %edx
  xor %r10d, %r10d
  syscall
1:
  movabs $CSTUB_CONFIGURATION, %r12
  mov CSTUB_CONF_SPIN(%r12), %ecx
2:
  cmpl $0, CSTUB_AREA_TURN(%rbx)
  je 4f
  test %ecx, %ecx
  jz 3f
  dec %ecx
  pause
  jmp 2b
3:
  mov $1, %eax
  xchg %eax, CSTUB_AREA_STUB_SLEEPS(%rbx)
5:
  cmpl $0, CSTUB_AREA_TURN(%rbx)
  je 6f
  mov $SYS_futex, %eax
  mov %rbx, %rdi
  xor %esi, %esi  // FUTEX_WAIT
  mov $1, %edx
  xor %r10d, %r10d
  syscall
  jmp 5b
6:
  movl $0, CSTUB_AREA_STUB_SLEEPS(%rbx)
4:
  mov CSTUB_AREA_FS_BASE(%rbx), %rax
  wrfsbase %rax
  mov CSTUB_AREA_GS_BASE(%rbx), %rax
  wrgsbase %rax
  mov CSTUB_AREA_DATA_SELECTOR(%rbx), %eax
  test %eax, %eax
  jz 7f
  mov %eax, %ds
  mov %eax, %es
  mov %eax, %fs
  mov %eax, %gs
7:
resume:
  lea 8(%r13), %rsp
  mov $SYS_rt_sigreturn, %eax
  syscall
  ud2

// A SYSCALL of guest code. One hypercall needs nobody else: set_segment_base for FS (0) and the kernel's GS (2), which is
// one instruction that guest code could have executed itself. All else, and addresses of the upper half, are the monitor's.
system_call:
  cmpl $0, CSTUB_AREA_SERVES(%rbx)
  je hand_over
  cmpq $XEN_SET_SEGMENT_BASE, CONTEXT_RAX(%rdx)
  jne hand_over
  cmpl $AUDIT_ARCH_X86_64, INFO_ARCHITECTURE(%rsi)
  jne hand_over
  mov CONTEXT_RIP(%rdx), %rax
  cmp %rax, INFO_CALL_ADDRESS(%rsi)
  jne hand_over
  mov CONTEXT_RDI(%rdx), %eax
  mov CONTEXT_RSI(%rdx), %rcx
  mov %rcx, %r8
  shr $47, %r8
  jnz hand_over
  test %eax, %eax
  jz 8f
  cmp $2, %eax
  jne hand_over
  wrgsbase %rcx
  jmp 9f
8:
  wrfsbase %rcx
9:
  movq $0, CONTEXT_RAX(%rdx)
  incl CSTUB_AREA_SERVED(%rbx)
  jmp resume

// A fault at an address that nothing can be mapped at. If it is a load of one quadword from the window, by the one form that compilers
// make for it, the quadword is loaded from where the window is in this process. All else is the monitor's: other forms, other widths,
// single steps, and every so many loads one, so that it knows of loops full of them. RIP's page has just been executed, so it can be read; of the next page nobody knows.
access_fault:
  cmpl $0, CSTUB_AREA_SERVES(%rbx)
  je hand_over
  cmpl $SEGV_MAPERR, INFO_CODE(%rsi)
  jne hand_over
  testl $ERROR_STORE_OR_FETCH, CONTEXT_ERROR(%rdx)
  jnz hand_over
  testl $FLAG_TRAP, CONTEXT_RFLAGS(%rdx)
  jnz hand_over
  movabs $CSTUB_CONFIGURATION, %r12
  mov INFO_ADDRESS(%rsi), %rax
  sub CSTUB_CONF_WINDOW_ADDRESS(%r12), %rax
  cmp CSTUB_CONF_WINDOW_SIZE(%r12), %rax
  jae hand_over
  test $7, %al
  jnz hand_over
  mov CSTUB_AREA_SERVED_LOADS(%rbx), %ecx
  cmp %ecx, CSTUB_AREA_LAST_LOAD(%rbx)
  je hand_over
  mov CONTEXT_RIP(%rdx), %r8
  mov %r8d, %ecx
  and $4095, %ecx
  cmp $(4096 - LONGEST_LOAD), %ecx
  ja hand_over
  mov (%r8), %ecx
  mov %ecx, %r9d
  and $REX_W_MASK, %cl
  cmp $REX_W, %cl
  jne hand_over
  cmp $OPCODE_LOAD, %ch
  jne hand_over
// R9D: the first four bytes. R8: RIP behind the instruction. ECX: mod and r/m.
  add $3, %r8
  mov %r9d, %ecx
  shr $16, %ecx
  mov %ecx, %r10d
  shr $6, %r10d
  and $3, %r10d
  and $7, %ecx
  cmp $4, %ecx
  jne 11f
  inc %r8
  mov %r9d, %ecx
  shr $24, %ecx
  and $7, %ecx
11:
  test %r10d, %r10d
  jnz 12f
  cmp $5, %ecx
  jne 14f
  jmp 13f
12:
  inc %r8
  cmp $1, %r10d
  je 14f
  dec %r8
13:
  add $4, %r8
14:
// The register's number, and where the context has it.
  mov %r9d, %ecx
  shr $19, %ecx
  and $7, %ecx
  and $4, %r9d
  lea (%rcx,%r9,2), %ecx
  lea register_places(%rip), %r10
  movzbl (%r10,%rcx), %ecx
  movabs $CSTUB_WINDOW, %r10
  mov (%r10,%rax), %rax
  mov %rax, CONTEXT_GENERAL(%rdx,%rcx,8)
  mov %r8, CONTEXT_RIP(%rdx)
  incl CSTUB_AREA_SERVED_LOADS(%rbx)
  jmp resume

// RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15 in the context's order, which begins with R8.
register_places:
  .byte 13, 14, 12, 11, 15, 10, 9, 8, 0, 1, 2, 3, 4, 5, 6, 7
cstub_code_end:

  .section .note.GNU-stack, "", @progbits
