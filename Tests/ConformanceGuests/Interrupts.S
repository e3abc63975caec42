// External interrupts, NMIs and HLT (AMD64 APM vol. 2, 8.1, 8.5; chapter 16 for the local APIC).
//
// The event port makes the runner raise an interrupt while the OUT is executed, so where it is taken is determined: at the
// first boundary between instructions that allows it.

#include "guest.h"

#define APIC_BASE 0x1b  // MSR
#define APIC 0xfee00000

// Enables the local APIC: spurious vector 0x6f.
.macro enable_apic
  movl $APIC, %ebx
  movl $0x16f, 0xf0(%rbx)
.endm

.macro end_of_interrupt
  movl $0, 0xb0(%rbx)
.endm

// With IF = 1 the interrupt is taken right behind the instruction during which it was raised.
guest interrupt_message, 64
  enable_apic
  arm_return 1f
  sti
  nop
  event EVENT_MESSAGE
1:
  cli
  end_of_interrupt
  emit_value $1
  finish
endguest interrupt_message

// With IF = 0 it waits; STI opens the window one instruction later.
guest interrupt_window, 64
  enable_apic
  event EVENT_MESSAGE
  nop
  emit_value $1
  arm_return 1f
  sti
  nop
1:
  emit_value $2
  cli
  emit_value $3
  finish
endguest interrupt_window

// STI directly before CLI opens no window at all.
guest interrupt_sti_cli, 64
  enable_apic
  event EVENT_MESSAGE
  sti
  cli
  nop
  emit_value $1
  arm_return 1f
  sti
  nop
1:
  cli
  finish
endguest interrupt_sti_cli

// MOV SS holds interrupts and the single-step trap off until behind the next instruction, so that a pair with MOV RSP
// is not torn apart.
guest interrupt_mov_ss, 64
  movl %ss, %ecx
  arm 1f, 1f
  pushfq
  orq $0x100, (%rsp)
  popfq
  movl %ecx, %ss
  nop
1:
  finish
endguest interrupt_mov_ss

// POPF with IF set opens the window at once.
guest interrupt_popf, 64
  enable_apic
  event EVENT_MESSAGE
  pushq $0x202
  arm_return 1f
  popfq
1:
  cli
  finish
endguest interrupt_popf

// So does IRETQ.
guest interrupt_iret, 64
  enable_apic
  event EVENT_MESSAGE
  pushq $DATA0
  pushq $STACK
  pushq $0x202
  pushq $CODE64
  pushq $AT(1f)
  arm_return 1f
  iretq
1:
  cli
  finish
endguest interrupt_iret

// While a handler has not ended one interrupt, another of no higher priority waits; a higher one comes first.
guest interrupt_priority, 64
  enable_apic
  event EVENT_MESSAGES
  arm_return 1f
  sti
  nop
1:
  nop
  emit_value $1
  end_of_interrupt
  nop
  emit_value $2
  end_of_interrupt
  cli
  finish
endguest interrupt_priority

// The task priority keeps back what is not above it.
guest interrupt_task_priority, 64
  enable_apic
  movl $5, %eax
  movq %rax, %cr8
  sti
  event EVENT_MESSAGE
  nop
  emit_value $1
  arm_return 1f
  xorl %eax, %eax
  movq %rax, %cr8
1:
  cli
  emit_value $2
  finish
endguest interrupt_task_priority

// HLT ends with the interrupt; the frame points behind HLT.
guest interrupt_halt, 64
  enable_apic
  arm_return 1f
  event EVENT_MESSAGE | EVENT_LATER
  sti
  hlt
1:
  cli
  emit_value $1
  finish
endguest interrupt_halt

// An interrupt that is pending before STI must not slip in between STI and HLT, or the HLT would sleep for ever.
guest interrupt_sti_halt, 64
  enable_apic
  event EVENT_MESSAGE
  arm_return 1f
  sti
  hlt
1:
  cli
  emit_value $1
  finish
endguest interrupt_sti_halt

// Nothing can wake this.
guest halt_for_good, 64
  cli
1:
  hlt
  jmp 1b
endguest halt_for_good

// An NMI wakes a processor that sleeps with interrupts off.
guest interrupt_nmi_halt, 64
  enable_apic
  arm_return 1f
  event EVENT_NMI | EVENT_LATER
  cli
  hlt
1:
  emit_value $1
  finish
endguest interrupt_nmi_halt

// IF does not hold it off.
guest interrupt_nmi, 64
  enable_apic
  arm_return 1f
  event EVENT_NMI
1:
  emit_value $1
  finish
endguest interrupt_nmi

// While an NMI's handler runs, the next one waits until IRET.
guest interrupt_nmi_masked, 64
  enable_apic
  event EVENT_NMI
  emit_value $9
  finish
endguest interrupt_nmi_masked

guest interrupt_nmi_masked_handler, 64
  cmpl $0, DATA
  jne 1f
  movl $1, DATA
  emit_value $1
  event EVENT_NMI
  nop
  emit_value $2
  iretq
1:
  emit_value $3
  iretq
endguest interrupt_nmi_masked_handler

// Interrupts that come from a line through the pair of 8259s and LINT0, in real mode: line 5 is vector 8 + 5.
guest interrupt_line_real, 16
  // ICW1 to ICW4: edge, cascade; vectors 8 and 0x70; 8086 mode. Then all but line 5 masked.
  movb $0x11, %al
  outb %al, $0x20
  movb $8, %al
  outb %al, $0x21
  movb $4, %al
  outb %al, $0x21
  movb $1, %al
  outb %al, $0x21
  movb $0xdf, %al
  outb %al, $0x21
  arm_return 1f
  event EVENT_LINE_UP | EVENT_LATER
  sti
  hlt
1:
  cli
  event EVENT_LINE_DOWN
  movb $0x20, %al
  outb %al, $0x20
  emit_value $1
  finish
endguest interrupt_line_real

// The same line through the I/O APIC: entry 5, edge, vector 0x55, processor 0.
guest interrupt_line_apic, 64
  enable_apic
  // The 8259s are silenced, or they would interrupt for the same line.
  movb $0xff, %al
  outb %al, $0x21
  movl $0xfec00000, %ecx
  movl $0x1b, (%rcx)
  movl $0, 0x10(%rcx)
  movl $0x1a, (%rcx)
  movl $0x55, 0x10(%rcx)
  arm_return 1f
  event EVENT_LINE_UP | EVENT_LATER
  sti
  hlt
1:
  cli
  end_of_interrupt
  event EVENT_LINE_DOWN
  emit_value $1
  finish
endguest interrupt_line_apic

// Level-triggered: as long as the line is up, the interrupt comes again after its end.
guest interrupt_line_level, 64
  enable_apic
  // The 8259s are silenced, or they would interrupt for the same line.
  movb $0xff, %al
  outb %al, $0x21
  movl $0xfec00000, %ecx
  movl $0x1b, (%rcx)
  movl $0, 0x10(%rcx)
  movl $0x1a, (%rcx)
  movl $0x8055, 0x10(%rcx)
  arm_return 1f
  event EVENT_LINE_UP | EVENT_LATER
  sti
  hlt
1:
  cli
  movl $AT(2f), EXPECTED
  end_of_interrupt
  sti
  nop
2:
  cli
  event EVENT_LINE_DOWN
  end_of_interrupt
  sti
  nop
  cli
  emit_value $1
  finish
endguest interrupt_line_level

// Channel 0 of the 8254 interrupts on line 0: one shot of about a millisecond.
guest interrupt_timer_real, 16
  movb $0x11, %al
  outb %al, $0x20
  movb $8, %al
  outb %al, $0x21
  movb $4, %al
  outb %al, $0x21
  movb $1, %al
  outb %al, $0x21
  movb $0xfe, %al
  outb %al, $0x21
  movb $0x30, %al
  outb %al, $0x43
  movb $0xa9, %al
  outb %al, $0x40
  movb $0x04, %al
  outb %al, $0x40
  arm_return 1f
  sti
  hlt
1:
  cli
  emit_value $1
  finish
endguest interrupt_timer_real

// The local APIC's own timer, one shot; its count is zero afterwards.
guest interrupt_apic_timer, 64
  enable_apic
  movl $0xb, 0x3e0(%rbx)
  movl $0x52, 0x320(%rbx)
  movl $100000, 0x380(%rbx)
  arm_return 1f
  sti
  hlt
1:
  cli
  movl 0x390(%rbx), %eax
  emit
  end_of_interrupt
  finish
endguest interrupt_apic_timer

// Its deadline mode: the register holds the deadline until it has passed.
guest interrupt_deadline_timer, 64
  enable_apic
  movl $0x40052, 0x320(%rbx)
  mfence
  arm_return 1f
  rdtsc
  shlq $32, %rdx
  orq %rdx, %rax
  addq $1000000, %rax
  movq %rax, %rdx
  shrq $32, %rdx
  movl $0x6e0, %ecx
  wrmsr
  sti
  hlt
1:
  cli
  movl $0x6e0, %ecx
  rdmsr
  orl %edx, %eax
  emit
  end_of_interrupt
  finish
endguest interrupt_deadline_timer

// An interprocessor interrupt to oneself is taken right behind the write, by register page and by MSR.
guest interrupt_self, 64
  enable_apic
  arm_return 1f
  sti
  nop
  movl $0x40053, 0x300(%rbx)
1:
  cli
  end_of_interrupt
  emit_value $1
  // x2APIC: the register page becomes MSRs 0x800 and up; 0x83f is the self-interrupt.
  movl $0x1b, %ecx
  rdmsr
  orl $0x400, %eax
  wrmsr
  arm_return 2f
  xorl %edx, %edx
  movl $0x83f, %ecx
  movl $0x54, %eax
  sti
  nop
  wrmsr
2:
  cli
  movl $0x80b, %ecx
  xorl %eax, %eax
  wrmsr
  emit_value $2
  finish
endguest interrupt_self

// The identification and version registers, and task priority, of both forms.
guest apic_registers, 64
  enable_apic
  movl 0x20(%rbx), %eax
  emit
  movl 0x30(%rbx), %eax
  andl $0xff, %eax
  shrl $4, %eax
  emit
  movl 0xf0(%rbx), %eax
  emit
  movl $0x50, 0x80(%rbx)
  movq %cr8, %rax
  emit64
  movl $0x1b, %ecx
  rdmsr
  orl $0x400, %eax
  wrmsr
  movl $0x802, %ecx
  rdmsr
  emit
  movl $0x808, %ecx
  rdmsr
  emit
  finish
endguest apic_registers

// The register page hides RAM that lies at the same place, and gives it back unchanged.
guest apic_memory, 64
  enable_apic
  movl $0x5a5a5a5a, DATA + 0x2030
  movl $APIC_BASE, %ecx
  rdmsr
  movl %eax, %edi
  andl $0xfff, %eax
  orl $DATA + 0x2000, %eax
  wrmsr
  movl $0, DATA + 0x2030
  movl DATA + 0x2030, %esi
  movl %edi, %eax
  wrmsr
  movzbl %sil, %eax
  shrl $4, %eax
  emit
  movl DATA + 0x2030, %eax
  emit
  movzbl 0x30(%rbx), %eax
  shrl $4, %eax
  emit
  finish
endguest apic_memory

// An interrupt whose gate is not present: #NP with the EXT bit.
guest interrupt_external_bit, 64
  enable_apic
  arm 1f, 1f
  sti
  nop
  event EVENT_MESSAGE
1:
  cli
  finish
endguest interrupt_external_bit

// An interrupt at CPL 3 comes to CPL 0 on RSP0, and IRETQ leads back.
guest interrupt_user, 64
  enable_apic
  pushq $USER_DATA
  pushq $USER_STACK
  pushq $0x202
  pushq $USER_CODE64
  pushq $AT(1f)
  iretq
1:
  movl $RETURN, RESUME
  movl $AT(2f), EXPECTED
  user_event EVENT_MESSAGE
2:
  user_emit %rsp
  user_finish
endguest interrupt_user

// An endless loop at CPL 3 is interrupted.
guest interrupt_user_loop, 64
  enable_apic
  pushq $USER_DATA
  pushq $USER_STACK
  pushq $0x202
  pushq $USER_CODE64
  pushq $AT(1f)
  iretq
1:
  arm 2f, 3f
  user_event EVENT_MESSAGE | EVENT_LATER
2:
  jmp 2b
3:
  user_finish
endguest interrupt_user_loop

// And one at CPL 0.
guest interrupt_kernel_loop, 64
  enable_apic
  arm 2f, 3f
  sti
  event EVENT_MESSAGE | EVENT_LATER
2:
  jmp 2b
3:
  cli
  finish
endguest interrupt_kernel_loop
