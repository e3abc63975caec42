// Virtual-8086 mode (AMD64 APM vol. 2, 8.10; vol. 3): real-mode code as a task of protected mode.
//
// The guest begins in protected mode and goes on by IRET with CS = VIRTUAL_CODE, whose low bits make the handlers see that the frame has a
// stack pointer. The TSS has a permission bitmap that allows every port (Virtual8086Cases.swift), so that reports work.

#include "guest.h"

// The guest lies at 16 bytes into the segment.
#define VIRTUAL_CODE 0x7ff
#define IP(label) (label - 99b + 0x10)
#define VIRTUAL_STACK 0x1000

// Goes on behind itself in virtual-8086 mode, with these flags beside VM.
.macro enter_virtual flags=0
  // As a kernel does, by an available task: QEMU's TCG ends itself when exceptions need a task that a hypervisor has loaded busy.
  andb $~2, GDT + TSS_SELECTOR + 5
  movw $TSS_SELECTOR, %ax
  ltr %ax
  pushl $0x6666
  pushl $0x5555
  pushl $0x2000
  pushl $0x3000
  pushl $0x100
  pushl $VIRTUAL_STACK
  pushl $0x20002 | \flags
  pushl $VIRTUAL_CODE
  pushl $IP(1f)
  iretl
1:
  .code16
.endm

// Expects an exception at the label `at` and goes on at `next`. EXPECTED and RESUME are below 64 KiB: by a segment of 0.
.macro arm_virtual at:req, next:req
  pushw %ds
  pushw %ax
  movw $0, %ax
  movw %ax, %ds
  movl $IP(\at), EXPECTED
  movl $IP(\next), RESUME
  popw %ax
  popw %ds
.endm

.macro virtual_fault code:vararg
  arm_virtual 2f, 3f
2:
  \code
3:
.endm

.macro emit_word register:req
  movzwl \register, %eax
  emit
.endm

// Segments are sixteen times their selector; DS, ES, FS, GS and SS come from the frame.
guest virtual_segments, 32
  enter_virtual
  movw %ds, %ax
  emit_word %ax
  movw %es, %ax
  emit_word %ax
  movw %fs, %ax
  emit_word %ax
  movw %gs, %ax
  emit_word %ax
  movw %ss, %ax
  emit_word %ax
  movw $0xabcd, 0x10
  movw $0x2001, %ax
  movw %ax, %fs
  emit_word %fs:0
  pushw $0x1234
  movw $0x1ff, %ax
  movw %ax, %gs
  emit_word %gs:0xe
  // A far call, and string instructions from DS to ES.
  lcall $VIRTUAL_CODE - 0x100, $(IP(4f) + 0x1000)
  finish
4:
  movw %cs, %ax
  emit_word %ax
  movw $0x10, %si
  movw $0x30, %di
  movw $1, %cx
  cld
  rep movsw
  emit_word %es:0x30
  lretw
endguest virtual_segments

// What privileged code alone may do, and what real mode does not have.
guest virtual_refused, 32
  enter_virtual
  virtual_fault hlt
  virtual_fault movl %cr0, %eax
  virtual_fault lgdtl %cs:0
  virtual_fault clts
  virtual_fault wbinvd
  virtual_fault sldt %ax
  virtual_fault str %ax
  virtual_fault ltr %ax
  virtual_fault lar %ax, %bx
  virtual_fault verr %ax
  virtual_fault arpl %ax, %bx
  finish
endguest virtual_refused

// With an IOPL below 3.
guest virtual_flags_refused, 32
  enter_virtual 0x2000
  virtual_fault cli
  virtual_fault sti
  virtual_fault pushfw
  virtual_fault popfw
  virtual_fault int $0x21
  virtual_fault iretw
  finish
endguest virtual_flags_refused

// With IOPL 3 they work as in real mode, but that IOPL stays and INT n goes by the IDT.
guest virtual_flags, 32
  enter_virtual 0x3000
  sti
  pushfw
  popw %ax
  andw $0x3200, %ax
  emit_word %ax
  cli
  pushfl
  popl %eax
  andl $0x23200, %eax
  emit
  pushw $0x202
  popfw
  pushfw
  popw %ax
  andw $0x3200, %ax
  emit_word %ax
  pushw $2
  pushw %cs
  pushw $IP(5f)
  iretw
5:
  pushfw
  popw %ax
  andw $0x3200, %ax
  emit_word %ax
  virtual_fault int $0x21
  finish
endguest virtual_flags

// INT3 and INTO ask for the gate's privilege, not for IOPL; INT1 and faults ask for nothing.
guest virtual_exceptions, 32
  enter_virtual
  arm_virtual 4f, 4f
  int3
4:
  movb $0x7f, %al
  addb $1, %al
  arm_virtual 5f, 5f
  into
5:
  arm_virtual 6f, 6f
  .byte 0xf1
6:
  virtual_fault ud2
  xorw %cx, %cx
  virtual_fault divw %cx
  movw $0xffff, %bx
  virtual_fault movw (%bx), %ax
  movw $0xffff, %bp
  virtual_fault movw (%bp), %ax
  finish
endguest virtual_exceptions

// Ports that the bitmap forbids.
guest virtual_ports, 32
  enter_virtual 0x3000
  virtual_fault inb $0xb8, %al
  inb $0xb9, %al
  movzbl %al, %eax
  emit
  virtual_fault inw $0xb7, %ax
  finish
endguest virtual_ports

// CR4.VME: VIF stands for IF.
guest virtual_extensions, 32
  movl %cr4, %eax
  orl $1, %eax
  movl %eax, %cr4
  enter_virtual
  sti
  pushfw
  popw %ax
  andw $0x3200, %ax
  emit_word %ax
  cli
  pushfw
  popw %ax
  andw $0x3200, %ax
  emit_word %ax
  pushw $0x202
  popfw
  // The handler's frame shows IF and VIF themselves.
  virtual_fault ud2
  virtual_fault pushfl
  pushw $0x102
  virtual_fault popfw
  popw %ax
  pushw $2
  pushw %cs
  pushw $IP(5f)
  iretw
5:
  pushfw
  popw %ax
  andw $0x3200, %ax
  emit_word %ax
  finish
endguest virtual_extensions

// INT n goes by the program's own vectors where the TSS has a 0 bit, and to the monitor where it has a 1.
guest virtual_redirection, 32
  movl %cr4, %eax
  orl $1, %eax
  movl %eax, %cr4
  movw $IP(7f), 0x60 * 4
  movw $VIRTUAL_CODE, 0x60 * 4 + 2
  enter_virtual
  sti
  int $0x60
6:
  pushfw
  popw %ax
  andw $0x3200, %ax
  emit_word %ax
  virtual_fault int $0x61
  finish
7:
  pushfw
  popw %ax
  andw $0x3200, %ax
  emit_word %ax
  movw %sp, %bp
  movw (%bp), %ax
  subw $IP(6b), %ax
  emit_word %ax
  movw 2(%bp), %ax
  emit_word %ax
  movw 4(%bp), %ax
  andw $0x3200, %ax
  emit_word %ax
  iretw
endguest virtual_redirection

// VIP: an interrupt waits, and the monitor is told when VIF is to be set.
guest virtual_pending, 32
  movl %cr4, %eax
  orl $1, %eax
  movl %eax, %cr4
  enter_virtual 0x100000
  cli
  virtual_fault sti
  pushw $0x202
  virtual_fault popfw
  popw %ax
  pushw $2
  popfw
  finish
endguest virtual_pending

// CR4.PVI: the same for CLI and STI of protected mode at CPL 3.
guest virtual_interrupts, 32
  cli
  pushfl
  popl %eax
  andl $0x80200, %eax
  user_emit %eax
  sti
  pushfl
  popl %eax
  andl $0x80200, %eax
  user_emit %eax
  user_finish
endguest virtual_interrupts

// A task whose EFLAGS have VM: the companion is its code.
guest virtual_task, 32
  lcall $CALL_GATE, $0
  finish
endguest virtual_task

guest virtual_task_code, 16
  movw %ds, %ax
  emit_word %ax
  movw %es, %ax
  emit_word %ax
  movl %esp, %eax
  emit
  finish
endguest virtual_task_code
