// A boot sector: 512 bytes that the firmware, or a loader for flat images, puts at 0x7c00 and starts in real mode.
// It speaks through the serial port as all guests do and ends with 0.

  .code16
  .globl _start
_start:
  ljmp $0, $flat  // some firmware starts at 07c0:0000
flat:
  cli
  cld
  xor %ax, %ax
  mov %ax, %ds
  mov %ax, %ss
  mov $0x7c00, %sp
  mov $message, %si
next:
  lodsb
  test %al, %al
  jz done
  mov %al, %bl
  mov $0x3fd, %dx
wait:
  in %dx, %al
  test $0x20, %al  // transmitter empty
  jz wait
  mov $0x3f8, %dx
  mov %bl, %al
  out %al, %dx
  jmp next
done:
  xor %al, %al
  out %al, $0xf4
halt:
  cli
  hlt
  jmp halt

message:
  .asciz "Hello from 16-bit real mode.\r\n"

  .org 510
  .byte 0x55, 0xaa
