// Starting a second processor and talking to it (AMD64 APM vol. 2, 15.27.8 and 16.5; Intel SDM vol. 3, 9.4).
//
// The second processor begins in real mode at the page that the start-up IPI names: 0x9000, where each case puts one of
// the guests whose names end in `_second`.

#include "guest.h"

#define APIC 0xfee00000

// Waits for a word of memory to become `value`.
.macro await address, value
9:
  pause
  cmpl $\value, \address
  jne 9b
.endm

.macro start_second
  movl $APIC, %ebx
  movl $0x16f, 0xf0(%rbx)
  movl $0x01000000, 0x310(%rbx)
  movl $0x4500, 0x300(%rbx)
  movl $0x01000000, 0x310(%rbx)
  movl $0x4609, 0x300(%rbx)
.endm

guest startup_page, 64
  start_second
  await DATA, 1
  emit_value $0x100
  finish
endguest startup_page

// Its registers at the start: CS is the page, IP is 0, real mode, interrupts off.
guest startup_second, 16
  call 1f
1:
  popw %bx
  movl %cs, %eax
  andl $0xffff, %eax
  emit
  xorl %eax, %eax
  movw %bx, %ax
  subw $1b - 99b, %ax
  emit
  smswl %eax
  andl $1, %eax
  emit
  pushfw
  popw %ax
  andl $0x200, %eax
  emit
  movw $0x2000, %ax
  movw %ax, %ds
  movl $1, 0
1:
  cli
  hlt
  jmp 1b
endguest startup_second

// The same by the x2APIC's MSR: one write, destination in the upper half.
guest startup_msr, 64
  movl $0x1b, %ecx
  rdmsr
  orl $0x400, %eax
  wrmsr
  movl $0x830, %ecx
  movl $1, %edx
  movl $0x4500, %eax
  wrmsr
  movl $0x4609, %eax
  wrmsr
  await DATA, 1
  emit_value $0x100
  finish
endguest startup_msr

// To all others, without knowing them.
guest startup_broadcast, 64
  movl $APIC, %ebx
  movl $0x16f, 0xf0(%rbx)
  movl $0xc4500, 0x300(%rbx)
  movl $0xc4609, 0x300(%rbx)
  await DATA, 1
  emit_value $0x100
  finish
endguest startup_broadcast

// An interrupt to the sleeping second processor, which answers with one to the first.
guest startup_interrupt, 64
  start_second
  await DATA, 1
  arm_return 1f
  movl $0x01000000, 0x310(%rbx)
  movl $0x4051, 0x300(%rbx)
  sti
  hlt
1:
  cli
  movl DATA, %eax
  emit
  finish
endguest startup_interrupt

guest startup_interrupt_second, 16
  // Vector 0x51 of the table at 0.
  xorw %ax, %ax
  movw %ax, %ds
  movw $2f - 99b, 0x51 * 4
  movw %cs, 0x51 * 4 + 2
  movw $0x2000, %ax
  movw %ax, %ds
  // The APIC by MSRs, since its page is out of reach.
  movl $0x1b, %ecx
  rdmsr
  orl $0xc00, %eax
  wrmsr
  movl $0x80f, %ecx
  xorl %edx, %edx
  movl $0x16f, %eax
  wrmsr
  movl $1, 0
  sti
1:
  hlt
  jmp 1b
2:
  movl $0x802, %ecx
  rdmsr
  emit
  movl $2, 0
  movl $0x80b, %ecx
  xorl %eax, %eax
  xorl %edx, %edx
  wrmsr
  movl $0x830, %ecx
  movl $0x4052, %eax
  wrmsr
  iretw
endguest startup_interrupt_second

// Both count in one word; LOCK loses nothing.
guest startup_locked, 64
  start_second
  await DATA + 8, 1
  movl $1000, %ecx
1:
  lock incl DATA
  loop 1b
  await DATA + 4, 2
  movl DATA, %eax
  emit
  finish
endguest startup_locked

guest startup_locked_second, 16
  movw $0x2000, %ax
  movw %ax, %ds
  movl $1, 8
  movw $1000, %cx
1:
  lock incl 0
  loop 1b
  movl $2, 4
1:
  cli
  hlt
  jmp 1b
endguest startup_locked_second

// INIT stops a running processor and the next start-up IPI begins anew.
guest startup_again, 64
  start_second
  await DATA, 1
  movl $0, DATA
  start_second
  await DATA, 1
  emit_value $0x100
  finish
endguest startup_again

guest startup_again_second, 16
  movw $0x2000, %ax
  movw %ax, %ds
  movl $0x101, %eax
  emit
  movl $1, 0
1:
  jmp 1b
endguest startup_again_second

// The second processor sleeps until it is started.
guest startup_waiting, 64
  movl $10000, %ecx
1:
  pause
  subl $100, %ecx
  jnz 1b
  movl DATA, %eax
  emit
  finish
endguest startup_waiting
