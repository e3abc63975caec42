// What CPL 3 may not do, and the ways from one privilege level to the other.

#include "guest.h"

.macro refused code:vararg
  arm 1f, 2f
1:
  \code
2:
.endm

// Each is #GP(0) (AMD64 APM vol. 3, chapter 4).
guest privileged_instructions, 64
  refused hlt
  refused clts
  refused lgdt DATA
  refused lidt DATA
  refused lldt %ax
  refused ltr %ax
  refused lmsw %ax
  refused movq %cr0, %rax
  refused movq %rax, %cr3
  refused movq %cr8, %rax
  refused movq %dr7, %rax
  refused movq %rax, %dr0
  refused rdmsr
  refused wrmsr
  refused invlpg DATA
  refused invd
  refused wbinvd
  refused swapgs
  refused sysretq
  user_finish
endguest privileged_instructions

// With IOPL below CPL.
guest privileged_by_iopl, 64
  refused cli
  refused sti
  refused inb $0x10, %al
  refused outl %eax, $0x10
  refused outsb
  user_finish
endguest privileged_by_iopl

// POPF at CPL 3 with IOPL 0 changes neither IF nor IOPL, without a fault; DF and AC it changes.
guest flags_by_privilege, 64
  pushfq
  orq $0x43600, (%rsp)
  popfq
  pushfq
  popq %rax
  cld
  andl $0x43600, %eax
  user_emit %rax
  pushq $2
  popfq
  user_finish
endguest flags_by_privilege

// At CPL 0 it changes all of them.
guest flags_by_privilege_kernel, 64
  pushfq
  orq $0x43400, (%rsp)
  popfq
  pushfq
  popq %rax
  andl $0x43600, %eax
  emit
  pushq $2
  popfq
  pushfq
  popq %rax
  andl $0x43600, %eax
  emit
  finish
endguest flags_by_privilege_kernel

// The permission bitmap of the TSS lets CPL 3 at single ports.
guest port_permission, 64
  // As in LegacyExceptions.S: loaded once more by LTR.
  movb $0x89, GDT + TSS_SELECTOR + 5
  movl $TSS_SELECTOR, %eax
  ltr %ax
  pushq $USER_DATA
  pushq $USER_STACK
  pushq $2
  pushq $USER_CODE64
  pushq $AT(3f)
  iretq
3:
  inb $JOURNAL, %al
  movzbl %al, %eax
  user_emit %rax
  refused inb $JOURNAL + 1, %al
  // Each byte of a wider access needs its permission.
  refused inw $JOURNAL, %ax
  user_finish
endguest port_permission

// IRETQ at CPL 0 takes VIF and VIP, which are bits like others there. With null data segments, as a 64-bit kernel has them, and more
// than once.
guest privilege_iret_virtual_interrupt, 64
  xorl %eax, %eax
  movl %eax, %ds
  movl %eax, %es
  movl %eax, %fs
  movl %eax, %gs
  movl $3, %ebp
1:
  movl $0x180002, %edi
  jmp 3f
2:
  movl $2, %edi
3:
  movq %rsp, %rdx
  pushq $DATA0
  pushq %rdx
  pushq %rdi
  pushq $CODE64
  pushq $AT(4f)
  iretq
4:
  pushfq
  popq %rax
  andl $0x180000, %eax
  emit
  cmpl $2, %edi
  jne 2b
  decl %ebp
  jnz 1b
  finish
endguest privilege_iret_virtual_interrupt

// Into CPL 3 by IRETQ and back by an interrupt gate: CS, SS and RSP change both ways.
guest privilege_iret, 64
  pushq $USER_DATA
  pushq $USER_STACK - 0x10
  pushq $2
  pushq $USER_CODE64
  pushq $AT(1f)
  iretq
1:
  movl %cs, %eax
  user_emit %rax
  movl %ss, %eax
  user_emit %rax
  user_emit %rsp
  arm 2f, 3f
2:
  cli
3:
  user_finish
endguest privilege_iret

// Null selectors that ask for a privilege are 0 behind a return to CPL 3.
guest privilege_null_selectors, 64
  movl $1, %eax
  movl %eax, %ds
  movl $2, %eax
  movl %eax, %es
  movl $3, %eax
  movl %eax, %fs
  movl %eax, %gs
  movl %ds, %eax
  emit
  movl %gs, %eax
  emit
  return_to_user 1f
1:
  movl %ds, %eax
  user_emit %rax
  movl %es, %eax
  user_emit %rax
  movl %fs, %eax
  user_emit %rax
  movl %gs, %eax
  user_emit %rax
  movl $3, %eax
  movl %eax, %ds
  movl %eax, %gs
  movl %ds, %eax
  user_emit %rax
  arm 2f, 3f
2:
  cli
3:
  movl %ds, %eax
  user_emit %rax
  movl %gs, %eax
  user_emit %rax
  user_finish
endguest privilege_null_selectors

// By a far return.
guest privilege_far_return, 64
  pushq $USER_DATA
  pushq $USER_STACK - 0x20
  pushq $USER_CODE64
  pushq $AT(1f)
  lretq
1:
  movl %cs, %eax
  user_emit %rax
  user_emit %rsp
  // Segments that CPL 3 may not use were made null.
  movl %ds, %eax
  user_emit %rax
  movl %es, %eax
  user_emit %rax
  user_finish
endguest privilege_far_return

// INT n through a gate that CPL 3 may use; the handler sees where from.
guest privilege_gate, 64
  movl $0x12345678, %ebx
  arm 1f, 1f
  int $0x30
1:
  user_emit %rsp
  user_emit %rbx
  user_finish
endguest privilege_gate

// SYSCALL: RCX has the return address, R11 the flags; CS and SS come from STAR, the mask clears flags, RSP stays.
guest privilege_syscall, 64
  movl $0xc0000081, %ecx
  xorl %eax, %eax
  movl $0x00300008, %edx
  wrmsr
  movl $0xc0000082, %ecx
  movl $AT(2f), %eax
  xorl %edx, %edx
  wrmsr
  movl $0xc0000084, %ecx
  movl $0x400, %eax
  wrmsr
  return_to_user 1f
1:
  std
  syscall
3:
  pushfq
  popq %rax
  cld
  andl $0x400, %eax
  user_emit %rax
  movl %cs, %eax
  user_emit %rax
  movl %ss, %eax
  user_emit %rax
  user_emit %rsp
  user_finish
2:
  pushfq
  popq %rax
  andl $0x400, %eax
  emit
  movq %rcx, %rax
  subq $AT(3b), %rax
  emit64
  movl %r11d, %eax
  andl $0x400, %eax
  emit
  movl %cs, %eax
  emit
  movl %ss, %eax
  emit
  movq %rsp, %rax
  emit64
  sysretq
endguest privilege_syscall

// What the mask does not name stays as it was: here all status flags.
guest privilege_syscall_flags, 64
  movl $0xc0000081, %ecx
  xorl %eax, %eax
  movl $0x00300008, %edx
  wrmsr
  movl $0xc0000082, %ecx
  movl $AT(2f), %eax
  xorl %edx, %edx
  wrmsr
  movl $0xc0000084, %ecx
  xorl %eax, %eax
  wrmsr
  return_to_user 1f
1:
  pushq $0x8d7
  popfq
  syscall
2:
  pushfq
  popq %rax
  andl $0x8d5, %eax
  emit
  finish
endguest privilege_syscall_flags

// Without EFER.SCE it is #UD.
guest privilege_syscall_disabled, 64
  arm 1f, 2f
1:
  syscall
2:
  user_finish
endguest privilege_syscall_disabled

// SYSENTER does not exist in long mode on AMD's processors.
guest privilege_sysenter, 64
  arm 1f, 2f
1:
  sysenter
2:
  user_finish
endguest privilege_sysenter

// IRETQ to what CPL 3 may not have: a code segment of DPL 0 with RPL 3, a stack segment of DPL 0.
guest privilege_iret_refused, 64
  pushq $DATA0
  pushq $USER_STACK
  pushq $2
  pushq $USER_CODE64
  pushq $AT(2f)
  arm 1f, 2f
1:
  iretq
2:
  addq $40, %rsp
  pushq $USER_DATA
  pushq $USER_STACK
  pushq $2
  pushq $CODE64 | 3
  pushq $AT(4f)
  arm 3f, 4f
3:
  iretq
4:
  addq $40, %rsp
  finish
endguest privilege_iret_refused

// From CPL 3 an IRET can't go inwards.
guest privilege_iret_inwards, 64
  pushq $DATA0
  pushq $STACK
  pushq $2
  pushq $CODE64
  pushq $AT(2f)
  arm 1f, 2f
1:
  iretq
2:
  user_finish
endguest privilege_iret_inwards

// A call gate from CPL 3: to 64-bit code at CPL 0, on RSP0, and back by a far return.
guest privilege_call_gate, 64
  lcall *2f - 99b + LOAD
1:
  user_emit %rsp
  movl %cs, %eax
  user_emit %rax
  user_finish
2:
  .long 0
  .word CALL_GATE | 3
endguest privilege_call_gate

guest privilege_call_gate_target, 64
  movl %cs, %eax
  emit
  movl %ss, %eax
  emit
  movq %rsp, %rax
  emit64
  movq 16(%rsp), %rax
  emit64
  lretq
endguest privilege_call_gate_target

// A far jump through a call gate does not change the privilege; a conforming segment runs at the caller's.
guest far_jump, 64
  pushq $CODE64
  pushq $AT(1f)
  lretq
1:
  movl %cs, %eax
  emit
  ljmpl *4f - 99b + LOAD
2:
  movl %cs, %eax
  emit
  lcall *5f - 99b + LOAD
3:
  emit_value $3
  finish
4:
  .long AT(2b)
  .word CODE64
5:
  .long AT(6f)
  .word CODE64
6:
  emit_value $6
  // A far call with 32-bit operands pushes eight bytes.
  movl (%rsp), %eax
  subl $AT(3b), %eax
  emit
  lretl
endguest far_jump
