// What every micro-guest is written with.
//
// A guest is a handful of instructions between `guest NAME, BITS` and `endguest NAME`. It is assembled here but runs
// elsewhere: the runner copies it to LOAD in guest memory and enters it at its first byte, in the mode that the case
// asks for, over the memory map below. Label differences are constants, so `AT(label)` gives a label's address in the
// guest; jumps and calls within a guest are relative and need nothing.
//
//     0x01000  page tables: level 4, 3, 2 (first GiB), 1 (first 2 MiB), 2 (fourth GiB, where devices are)
//     0x06000  GDT       0x06800  TSS       0x06c00  LDT       0x07000  IDT (real mode: the vectors at 0)
//     0x08000  the guest
//     0x09000  in some cases a second guest: a handler, the target of a gate, another processor's start
//     0x0c000  exception and interrupt handlers (Handlers.S), which report what they find on their stack
//     0x0d000  words shared with the handlers
//     0x0f000  top of the stack the guest begins with at CPL 0
//     0x12000  RSP0      0x13000  IST 1      0x14000  stack at CPL 3
//     0x20000  free for the guest's use, up to 4 MiB less one page
//     0xd0000000  a page of device memory that keeps a journal; nothing behind it
//     0x400000    the end of RAM: a page of device memory joins it
//     0x410000    the report, the events and the end once more, for code that may not use ports
//
// The same numbers are in Layout.swift.

#define LOAD 0x8000
#define AT(label) (label - 99b + LOAD)

#define PAGE_LEVEL4 0x1000
#define PAGE_LEVEL3 0x2000
#define PAGE_LEVEL2 0x3000
#define PAGE_LEVEL1 0x4000
#define GDT 0x6000
#define TSS 0x6800
#define LDT 0x6c00
#define IDT 0x7000
#define STACK 0xf000
#define RSP0 0x12000
#define IST1 0x13000
#define USER_STACK 0x14000
#define DATA 0x20000
#define DEVICE 0xd0000000
#define RAM_END 0x400000
#define USER_RESULT 0x410000
#define USER_EVENT 0x410010
#define USER_FINISH 0x410018

// Selectors (Layout.swift builds the table).
#define CODE64 0x08
#define DATA0 0x10
#define CODE32 0x18
#define CODE16 0x20
#define DATA16 0x28
#define USER_CODE32 0x33
#define USER_DATA 0x3b
#define USER_CODE64 0x43
#define EXPAND_DOWN 0x48
#define NOT_PRESENT 0x50
#define READ_ONLY 0x58
#define CONFORMING32 0x60
#define LDT_SELECTOR 0x68
#define TSS_SELECTOR 0x78
#define CALL_GATE 0x88
#define LIMITED 0x98
#define USER_CODE16 0xa3
#define EXECUTE_ONLY 0xa8
#define NOT_PRESENT_CODE 0xb0

// Words shared with the handlers: where the next exception is expected (reported relative to it), and where to go on:
// 0 ends the guest, RETURN goes back to the frame's own address, anything else replaces it, once.
#define EXPECTED 0xd000
#define RESUME 0xd008
#define RETURN 1

// Ports of the runner.
#define RESULT 0x10       // a value for the report; 32 bits
#define RESULT_HIGH 0x14  // the upper half of the next one
#define EVENT 0x18        // asks the runner to do something: one of the EVENT_ numbers
#define FINISH 0xf4       // ends the guest with a code
#define JOURNAL 0xb8      // eight ports that keep a journal; offset n reads as byte 0xa0 + n
#define FAR_JOURNAL 0x300 // sixteen more, beyond the reach of an immediate
#define NOBODY 0x3f0      // no device

// What the runner does at once, on this processor's thread; with EVENT_LATER set, some milliseconds later from another.
#define EVENT_LINE_UP 1     // asserts line 5
#define EVENT_LINE_DOWN 2   // releases it
#define EVENT_MESSAGE 3     // message-signalled interrupt, vector 0x51
#define EVENT_NMI 4         // non-maskable interrupt
#define EVENT_STOP 5        // asks this processor to stop
#define EVENT_MESSAGES 6    // message-signalled interrupts, vectors 0x51 and 0x61
#define EVENT_LATER 0x80


.macro guest name:req, bits:req
  .section .rodata.conformance_guests, "a", @progbits
  .balign 16
  .code\bits
99:
guest_begin_\name:
.endm

.macro endguest name:req
guest_end_\name:
  .section .rodata.conformance_names, "a", @progbits
guest_name_\name:
  .asciz "\name"
  .section conformance_guest_table, "awR", @progbits
  .balign 8
  .quad guest_name_\name, guest_begin_\name, guest_end_\name
.endm

// What is assembled here must not make the linker give the program an executable stack.
.section .note.GNU-stack, "", @progbits

// Reports EAX.
.macro emit
  outl %eax, $RESULT
.endm

// Reports RAX.
.macro emit64
  rolq $32, %rax
  outl %eax, $RESULT_HIGH
  rolq $32, %rax
  outl %eax, $RESULT
.endm

// Reports a number or register; changes EAX.
.macro emit_value value:req
  movl \value, %eax
  outl %eax, $RESULT
.endm

// From CPL 0 to 64-bit code at CPL 3, by IRET; interrupts are off there.
.macro return_to_user to:req
  pushq $USER_DATA
  pushq $USER_STACK
  pushq $2
  pushq $USER_CODE64
  pushq $AT(\to)
  iretq
.endm

// Asks the runner for something; changes AL.
.macro event number:req
  movb $\number, %al
  outb %al, $EVENT
.endm

// Reports which breakpoints were met, and BD, BS and BT; changes EAX. Not for 64-bit code.
.macro emit_debug_status
  movl %dr6, %eax
  andl $0xe00f, %eax
  emit
.endm

// Reports DR7; changes EAX. Not for 64-bit code.
.macro emit_debug_control
  movl %dr7, %eax
  emit
.endm

// Ends the guest; changes AL.
.macro finish code=0
  movb $\code, %al
  outb %al, $FINISH
.endm

// The same for code at CPL 3: `user_emit` reports all of a register.
.macro user_emit register:req
  mov \register, USER_RESULT
.endm

.macro user_event number:req
  movb $\number, USER_EVENT
.endm

.macro user_finish code=0
  movb $\code, USER_FINISH
.endm

// Expects an exception at the label `at` and goes on at `next`.
.macro arm at:req, next:req
  movl $AT(\at), EXPECTED
  movl $AT(\next), RESUME
.endm

// Expects an exception or interrupt whose frame points to `at`, and returns to there, now and every time after.
.macro arm_return at:req
  movl $AT(\at), EXPECTED
  movl $RETURN, RESUME
.endm
