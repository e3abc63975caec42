// Loads and stores of device memory. A device sees each access once, as wide as the instruction made it; a store does not
// read, a read-modify-write is one read and one write. Accesses of more than eight bytes arrive in ascending pieces of eight.

#include "guest.h"

guest device_read, 64
  movl $DEVICE, %ebx
  movabsq $0x1122334455667788, %rax
  movb (%rbx), %al
  user_emit %rax
  movabsq $0x1122334455667788, %rax
  movw 2(%rbx), %ax
  user_emit %rax
  movabsq $0x1122334455667788, %rax
  movl 4(%rbx), %eax
  user_emit %rax
  movq 8(%rbx), %rax
  user_emit %rax
  user_finish
endguest device_read

guest device_write, 64
  movl $DEVICE, %ebx
  movabsq $0x1122334455667788, %rcx
  movb %cl, (%rbx)
  movb %ch, 1(%rbx)
  movw %cx, 2(%rbx)
  movl %ecx, 4(%rbx)
  movq %rcx, 8(%rbx)
  movb $0x5a, 1(%rbx)
  movw $0x5a5b, 2(%rbx)
  movl $0x5a5b5c5d, 4(%rbx)
  movq $-2, 8(%rbx)
  user_finish
endguest device_write

guest device_32, 32
  movl $DEVICE, %ebx
  movb (%ebx), %al
  movw 2(%ebx), %cx
  movl 4(%ebx), %eax
  user_emit %eax
  movb %al, (%ebx)
  movw %ax, 2(%ebx)
  movl %eax, DEVICE + 4
  movl DEVICE + 8, %eax
  user_emit %eax
  user_finish
endguest device_32

guest device_extend, 64
  movl $DEVICE, %ebx
  movzbl (%rbx), %eax
  user_emit %rax
  movzwl 2(%rbx), %eax
  user_emit %rax
  movsbl 1(%rbx), %eax
  user_emit %rax
  movsbq 1(%rbx), %rax
  user_emit %rax
  movswq 2(%rbx), %rax
  user_emit %rax
  movslq 4(%rbx), %rax
  user_emit %rax
  user_finish
endguest device_extend

guest device_modify, 64
  movl $DEVICE, %ebx
  addl $1, 4(%rbx)
  orb $0x0f, 1(%rbx)
  incq 8(%rbx)
  notw 2(%rbx)
  movl $0x12345678, %eax
  xchgl %eax, 4(%rbx)
  user_emit %rax
  movl $0x10, %eax
  lock xaddl %eax, 4(%rbx)
  user_emit %rax
  lock subl $4, 4(%rbx)
  user_finish
endguest device_modify

guest device_compare, 64
  movl $DEVICE, %ebx
  xorl %ecx, %ecx
  cmpl $0x87868584, 4(%rbx)
  sete %cl
  testb $1, 1(%rbx)
  setnz %ch
  user_emit %rcx
  movl $0x87868584, %eax
  movl $0x01020304, %edx
  lock cmpxchgl %edx, 4(%rbx)
  setz %al
  movzbl %al, %eax
  user_emit %rax
  user_finish
endguest device_compare

guest device_misaligned, 64
  movl $DEVICE, %ebx
  movl 1(%rbx), %eax
  user_emit %rax
  movq 3(%rbx), %rax
  user_emit %rax
  movw %ax, 7(%rbx)
  user_finish
endguest device_misaligned

guest device_unclaimed, 64
  movl $DEVICE + 0x2000, %ebx
  xorl %eax, %eax
  movb (%rbx), %al
  user_emit %rax
  movw (%rbx), %ax
  user_emit %rax
  movl (%rbx), %eax
  user_emit %rax
  movq (%rbx), %rax
  user_emit %rax
  movq %rcx, (%rbx)
  user_finish
endguest device_unclaimed

// Two bytes in the device's last page, two where nobody answers.
guest device_end, 64
  movl $DEVICE + 0xffe, %ebx
  movl (%rbx), %eax
  user_emit %rax
  movl $0x11223344, (%rbx)
  user_finish
endguest device_end

// Two bytes of RAM, two of the device behind it.
guest device_after_memory, 64
  movl $RAM_END - 2, %ebx
  movw $0x6162, (%rbx)
  movl (%rbx), %eax
  user_emit %rax
  movl $0x11223344, (%rbx)
  movzwl (%rbx), %eax
  user_emit %rax
  user_finish
endguest device_after_memory

guest device_string, 64
  cld
  movl $DEVICE, %edi
  movl $DATA, %esi
  movl $0x41424344, DATA
  movl $0x45464748, DATA + 4
  movl $2, %ecx
  rep movsl
  user_emit %rdi
  movl $DEVICE + 8, %esi
  movl $DATA + 0x100, %edi
  movl $2, %ecx
  rep movsw
  movl DATA + 0x100, %eax
  user_emit %rax
  movl $DEVICE + 0x20, %edi
  movl $3, %ecx
  movb $0x77, %al
  rep stosb
  user_emit %rcx
  movl $DEVICE + 0x10, %esi
  lodsl
  user_emit %rax
  user_finish
endguest device_string

guest device_vector, 64
  movl $DEVICE, %ebx
  movups (%rbx), %xmm0
  movups %xmm0, DATA
  movq DATA, %rax
  user_emit %rax
  movq DATA + 8, %rax
  user_emit %rax
  movaps %xmm0, 0x20(%rbx)
  user_finish
endguest device_vector

// The device behind an address that paging put elsewhere: what it sees is physical.
guest device_paged, 64
  movl DATA + 0x10000, %eax
  user_emit %rax
  movl %eax, DATA + 0x10004
  user_finish
endguest device_paged
