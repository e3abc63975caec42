// A 32-bit paravirtual kernel with user code: a line for each way from one to the other. In 32 bits the kernel is at
// privilege level 1 and shares its page tables with user code, which their user bit keeps out.
//
// Assembly, because Xen's interface for 32 bits has structures of its own and this is all that is written for it here.
// Debian's Xen can't run it: it is built without 32-bit guests.

#define BASE 0x400000
#define START_SHARED 36
#define START_CONSOLE_FRAME 52
#define START_CONSOLE_PORT 56
#define START_FRAME_LIST 68
#define RING_OUT 1024
#define RING_OUT_CONSUMER 3080
#define RING_OUT_PRODUCER 3084
#define KERNEL_CS 0xe019
#define KERNEL_SS 0xe021
#define USER_CS 0xe02b
#define USER_SS 0xe033

.macro note type, kind:req, value:vararg
  .balign 4
  .long 4, 2f - 1f, \type
  .asciz "Xen"
1:
  \kind \value
2:
.endm

// A hypercall: EBX, ECX, EDX, ESI, EDI; the result is in EAX.
.macro hypercall number
  mov $\number, %eax
  int $0x82
.endm

  .section .note.Xen, "a", @note
  note 6, .asciz, "trivisor-guest"
  note 5, .asciz, "xen-3.0"
  note 8, .asciz, "generic"
  note 9, .asciz, "yes"
  note 3, .long, BASE
  note 4, .long, BASE
  note 1, .long, xen_entry
  .balign 4

  .text
  .globl xen_entry
xen_entry:
  cld
  mov $kernel_stack_end, %esp
  mov %esi, start_info
// All that the builder maps is for the kernel alone; user code may have the image.
  mov $BASE, %ebp
1:
  mov %ebp, %ebx
  call frame_of
  mov %ebp, %ebx
  mov $0x67, %edi
  call remap_frame
  add $4096, %ebp
  cmp $image_end, %ebp
  jb 1b

  mov start_info, %esi
  mov START_SHARED(%esi), %ecx
  or $7, %ecx
  xor %edx, %edx
  mov $shared_page, %ebx
  mov $2, %esi
  hypercall 14
// No events but those that are unmasked.
  mov $31, %ecx
1:
  movl $-1, shared_page + 2176(,%ecx,4)
  dec %ecx
  jns 1b
  mov start_info, %esi
  mov START_CONSOLE_FRAME(%esi), %ecx
  mov START_CONSOLE_PORT(%esi), %eax
  mov %eax, console_port
  mov $console_page, %ebx
  mov $7, %edi
  call remap_frame

  mov $traps, %ebx
  hypercall 0
  mov $KERNEL_SS, %ebx
  mov $kernel_stack_end, %ecx
  hypercall 3
  mov $KERNEL_CS, %ebx
  mov $event, %ecx
  mov $KERNEL_CS, %edx
  mov $event, %esi
  hypercall 4

// A page that user code may not have, for the kernel alone.
  mov $secret, %ebx
  call frame_of
  mov $secret, %ebx
  mov $0x63, %edi
  call remap_frame
  mov $text_kernel_reads, %esi
  call print
  mov secret, %eax
  call print_number
  call end_line

// What the hypervisor does for the kernel, and not for user code.
  mov $6, %ebx
  mov $io_level, %ecx
  hypercall 33
  cli
  mov $KERNEL_SS, %eax
  mov %eax, %ds
  mov %eax, %ss
  mov %eax, %fs
  mov %fs:io_level, %ebx
  dec %ebx
  jnz after_breakpoint
  ljmp $KERNEL_CS, $1f
1:
  mov %cr3, %eax
  and $0xfff, %eax
  mov $text_control, %esi
  call print
  call print_number
  call end_line
  call start_second
  int3
after_breakpoint:

// The next piece of user code, or the end.
next:
  mov $kernel_stack_end, %esp
  mov position, %ebx
  incl position
  mov pieces(,%ebx,4), %eax
  test %eax, %eax
  jz finish
  cmp $wait_for_event, %eax
  jne 1f
  call start_timer
  mov $wait_for_event, %eax
1:
  pushl $USER_SS
  pushl $user_stack_end
  pushl $0x202
  pushl $USER_CS
  push %eax
  pushl $0x1234
  hypercall 23
  ud2

finish:
  mov $text_through, %esi
  call print
  call end_line
  mov $2, %ebx
  mov $zero, %ecx
  hypercall 29
  ud2

// Another processor, if there is one: it says so in memory and goes down.
start_second:
  mov $3, %ebx
  mov $1, %ecx
  hypercall 24
  test %eax, %eax
  js 2f
  movl $4, context + 512
  movl $second, context + 516 + 32
  movl $KERNEL_CS, context + 516 + 36
  movl $2, context + 516 + 40
  movl $second_stack_end, context + 516 + 44
  movl $KERNEL_SS, context + 516 + 48
  mov %cr3, %eax
  mov %eax, context + 2728
  xor %ebx, %ebx
  mov $1, %ecx
  mov $context, %edx
  hypercall 24
  mov $1, %ebx
  mov $1, %ecx
  hypercall 24
1:
  xor %ebx, %ebx
  hypercall 29
  cmpl $0, second_runs
  je 1b
  mov $text_second, %esi
  call print
  mov second_runs, %eax
  call print_number
  call end_line
2:
  ret

second:
  mov %esp, %eax
  sub $second_stack_end - 0x222, %eax
  mov %eax, second_runs
  mov $2, %ebx
  mov $1, %ecx
  hypercall 24
  ud2

// VIRQ_TIMER, twenty milliseconds after the system time that shared_info had last.
start_timer:
  movb $1, shared_page + 1  // for user code to take
  mov $1, %ebx
  mov $bind, %ecx
  hypercall 32
  mov $9, %ebx
  mov $bind + 8, %ecx
  hypercall 32
  mov shared_page + 48, %ebx
  mov shared_page + 52, %ecx
  add $20000000, %ebx
  adc $0, %ecx
  hypercall 15
  ret

.macro stub vector, hasCode=0
trap_\vector:
  .if \hasCode == 0
  pushl $0
  .endif
  pushl $\vector
  jmp trap
.endm
  stub 3
  stub 6
  stub 13, 1
  stub 14, 1
  stub 128
event:
  pushl $0
  pushl $0x100
  movb $0, shared_page
  movl $0, shared_page + 4
  mov $31, %ecx
1:
  movl $0, shared_page + 2048(,%ecx,4)
  dec %ecx
  jns 1b

// Vector, error code, EIP, CS, EFLAGS, and of user code ESP and SS.
trap:
  mov %eax, saved
  mov %esp, %ebp
  mov $text_vector, %esi
  mov (%ebp), %eax
  call print_pair
  mov $text_code, %esi
  mov 4(%ebp), %eax
  call print_pair
  mov $text_cs, %esi
  mov 12(%ebp), %eax
  and $0xffff, %eax
  call print_pair
  mov $text_flags, %esi
  mov 16(%ebp), %eax
  and $0x3200, %eax
  call print_pair
  testb $2, 12(%ebp)
  jz 1f
  mov $text_ss, %esi
  mov 24(%ebp), %eax
  and $0xffff, %eax
  call print_pair
  mov $text_stack, %esi
  mov 20(%ebp), %eax
  sub $user_stack_end, %eax
  call print_pair
1:
  cmpl $14, (%ebp)
  jne 2f
  mov $text_address, %esi
  mov shared_page + 8, %eax
  call print_pair
2:
  cmpl $128, (%ebp)
  jne 3f
  mov $text_eax, %esi
  mov saved, %eax
  call print_pair
3:
  call end_line
  jmp next

// EBX: an address in the image; its frame to ECX.
frame_of:
  mov start_info, %esi
  mov START_FRAME_LIST(%esi), %esi
  sub $BASE, %ebx
  shr $12, %ebx
  mov (%esi,%ebx,4), %ecx
  ret

// EBX: a page, ECX: a frame, EDI: the entry's flags.
remap_frame:
  mov %ecx, %edx
  shr $20, %edx
  shl $12, %ecx
  or %edi, %ecx
  mov $2, %esi
  hypercall 14
  ret

print_pair:
  push %eax
  call print
  pop %eax
  jmp print_number

print:
  lodsb
  test %al, %al
  jz 1f
  call print_byte
  jmp print
1:
  ret

print_number:
  mov %eax, %edx
  mov $8, %ecx
  mov $'0', %al
  call print_byte
  mov $'x', %al
  call print_byte
1:
  cmp $1, %ecx
  je 2f
  test $0xf0000000, %edx
  jnz 2f
  shl $4, %edx
  dec %ecx
  jmp 1b
2:
  mov %edx, %eax
  shr $28, %eax
  mov digits(%eax), %al
  call print_byte
  shl $4, %edx
  dec %ecx
  jnz 2b
  ret

// AL, into the console's ring.
print_byte:
  push %ebx
  mov console_page + RING_OUT_PRODUCER, %ebx
1:
  push %ebx
  sub console_page + RING_OUT_CONSUMER, %ebx
  cmp $2048, %ebx
  pop %ebx
  jae 1b
  and $2047, %ebx
  mov %al, console_page + RING_OUT(%ebx)
  incl console_page + RING_OUT_PRODUCER
  pop %ebx
  ret

end_line:
  mov $10, %al
  call print_byte
  mov $4, %ebx
  mov $console_port, %ecx
  hypercall 32
  ret

// User code: each piece traps.
call_kernel:
  mov $7, %eax
  int $0x80
read_secret:
  mov secret, %eax
write_secret:
  mov %eax, secret
execute_secret:
  jmp secret
read_nothing:
  mov 0x3f000000, %eax
hypervisor_call:
  mov $17, %eax
  int $0x82
no_gate:
  int $0x21
halt:
  hlt
clear_interrupts:
  cli
invalid:
  ud2
breakpoint:
  int3
wait_for_event:
  jmp wait_for_event

  .section .rodata, "a"
digits: .ascii "0123456789abcdef"
text_kernel_reads: .asciz "the kernel reads "
text_control: .asciz "cli is taken, cr3 ends in "
text_second: .asciz "another processor says "
text_vector: .asciz "vector "
text_code: .asciz ", code "
text_cs: .asciz ", cs "
text_flags: .asciz ", flags "
text_ss: .asciz ", ss "
text_stack: .asciz ", stack "
text_address: .asciz ", address "
text_eax: .asciz ", eax "
text_through: .asciz "Through."
  .balign 8
traps:
  .byte 3, 3
  .word KERNEL_CS
  .long trap_3
  .byte 6, 0
  .word KERNEL_CS
  .long trap_6
  .byte 13, 4
  .word KERNEL_CS
  .long trap_13
  .byte 14, 4
  .word KERNEL_CS
  .long trap_14
  .byte 128, 3
  .word KERNEL_CS
  .long trap_128
  .long 0, 0
pieces:
  .long call_kernel, read_secret, write_secret, execute_secret, read_nothing, hypervisor_call, no_gate, halt
  .long clear_interrupts, invalid, breakpoint, wait_for_event, 0
io_level: .long 1
zero: .long 0

  .data
  .balign 8
start_info: .long 0
position: .long 0
saved: .long 0
console_port: .long 0
bind: .long 0, 0, 0
second_runs: .long 0
  .balign 4096
secret: .long 0x5ec2e7
  .fill 4092, 1, 0x90
shared_page: .fill 4096, 1, 0
console_page: .fill 4096, 1, 0

  .bss
  .balign 4096
  .fill 4096, 1, 0
kernel_stack_end:
  .fill 4096, 1, 0
user_stack_end:
  .fill 4096, 1, 0
second_stack_end:
context: .fill 4096, 1, 0
image_end:
