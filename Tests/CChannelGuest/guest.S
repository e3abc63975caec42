// A guest without a kernel that speaks the command channel's protocol (Sources/TrivisorCommandChannel/ChannelFrame.swift) over COM2,
// by polling. 64-bit code, loaded at 1 MiB. The first byte of the ordered command says what it does at the input's end, after
// it has sent all of the input back:
//
//     e  status 42       k  killed by signal 9       x  something that is no frame       r  a reset, without a status

  .set COM2, 0x2f8
  .set LINE_STATUS, COM2 + 5
  .set FRAME, 0x200000
  .set CONTENTS, FRAME + 4
  .set REPLY, 0x210000

  .section .rodata
  .globl channel_guest, channel_guest_end
  .code64
channel_guest:
  mov $COM2 + 2, %edx
  mov $7, %al  // FIFOs on and empty
  out %al, %dx
  xor %r12d, %r12d
  lea hello(%rip), %rsi
  mov $20, %ecx
  call send
next:
  mov $FRAME, %edi
  mov $4, %ecx
  call receive
  mov $CONTENTS, %edi
  movzwl FRAME + 2, %ecx
  call receive
  mov FRAME, %al
  cmp $2, %al
  je order
  cmp $4, %al
  je data
  cmp $5, %al
  je end
  jmp next

order:
  test %r12b, %r12b
  jnz 1f
  mov CONTENTS + 7, %r12b  // behind flags, size and number of words
1:
  mov $3, %bl
  call credit
  jmp next

data:
  mov $FRAME, %esi
  movb $1, FRAME + 1  // from the input to the output
  movzwl FRAME + 2, %ecx
  add $4, %ecx
  call send
  mov $0, %bl
  call credit
  jmp next

end:
  cmp $'k', %r12b
  je killed
  cmp $'x', %r12b
  je nonsense
  cmp $'r', %r12b
  je reset
  lea exited(%rip), %rsi
  jmp finish
killed:
  lea signalled(%rip), %rsi
  jmp finish
nonsense:
  lea noFrame(%rip), %rsi
finish:
  mov $6, %ecx
  call send
  jmp .
reset:
  mov $0xfe, %al
  out %al, $0x64
  jmp .

credit:  // for the stream in BL, as many bytes as the frame has
  movl $0x00040006, REPLY
  mov %bl, REPLY + 1
  movzwl FRAME + 2, %eax
  mov %eax, REPLY + 4
  mov $REPLY, %esi
  mov $8, %ecx
  // on to send

send:  // ECX bytes from RSI
  jrcxz 2f
1:
  mov $LINE_STATUS, %edx
  in %dx, %al
  test $0x20, %al
  jz 1b
  mov $COM2, %edx
  lodsb
  out %al, %dx
  dec %ecx
  jmp send
2:
  ret

receive:  // ECX bytes to RDI
  jrcxz 2f
1:
  mov $LINE_STATUS, %edx
  in %dx, %al
  test $1, %al
  jz 1b
  mov $COM2, %edx
  in %dx, %al
  stosb
  dec %ecx
  jmp receive
2:
  ret

hello:
  .byte 1, 0, 16, 0
  .ascii "TRIVISOR"
  .long 1, 3000
exited:
  .byte 8, 0, 2, 0, 0, 42
signalled:
  .byte 8, 0, 2, 0, 1, 9
noFrame:
  .byte 0x4c, 0x69, 0x6e, 0x75, 0x78, 0x20
channel_guest_end:

  .section .note.GNU-stack, "", @progbits
