// IN, OUT, INS, OUTS (AMD64 APM vol. 3, "IN", "INS", "OUT", "OUTS"; vol. 1, 3.8).

#include "guest.h"

// The immediate form reaches ports 0 to 255; a narrow IN leaves the rest of EAX alone.
.macro immediate_forms bits
guest port_immediate_\bits, \bits
  movl $0x11223344, %eax
  inb $JOURNAL, %al
  emit
  movl $0x11223344, %eax
  inw $JOURNAL + 2, %ax
  emit
  inl $JOURNAL + 4, %eax
  emit
  movl $0x55667788, %eax
  outb %al, $JOURNAL + 1
  outw %ax, $JOURNAL + 2
  outl %eax, $JOURNAL + 4
  finish
endguest port_immediate_\bits
.endm

// The register form reaches all of them.
.macro register_forms bits
guest port_register_\bits, \bits
  movl $0x11223344, %eax
  movw $FAR_JOURNAL + 1, %dx
  inb %dx, %al
  emit
  movl $0x11223344, %eax
  inw %dx, %ax
  emit
  inl %dx, %eax
  emit
  movl $0x55667788, %eax
  outb %al, %dx
  outw %ax, %dx
  outl %eax, %dx
  finish
endguest port_register_\bits
.endm

immediate_forms 16
immediate_forms 32
immediate_forms 64
register_forms 16
register_forms 32
register_forms 64

guest port_long_upper_half, 64
  // A 32-bit IN clears the upper half of RAX; the narrower ones keep it. The upper half of RDX does not matter.
  movabsq $0x1122334455667788, %rax
  movabsq $0xffffffffffff0300, %rdx
  inb %dx, %al
  emit64
  movabsq $0x1122334455667788, %rax
  inw %dx, %ax
  emit64
  movabsq $0x1122334455667788, %rax
  inl %dx, %eax
  emit64
  finish
endguest port_long_upper_half

// An access that begins in one device and ends in the next is split into bytes; what nobody claims reads as ones.
guest port_split, 64
  movl $FAR_JOURNAL + 6, %edx
  inl %dx, %eax
  emit
  movl $0x11223344, %eax
  outl %eax, %dx
  movl $FAR_JOURNAL + 14, %edx
  inl %dx, %eax
  emit
  movl $0x55667788, %eax
  outl %eax, %dx
  finish
endguest port_split

guest port_unclaimed, 64
  movl $NOBODY, %edx
  movl $0x11223344, %eax
  inb %dx, %al
  emit
  movl $0x11223344, %eax
  inw %dx, %ax
  emit
  inl %dx, %eax
  emit
  outl %eax, %dx
  finish
endguest port_unclaimed

// Elements of 1, 2 and 4 bytes, forwards; the pointer moves by the width.
guest port_string_16, 16
  cld
  xorl %edi, %edi
  xorl %esi, %esi
  movw $0x7000, %di
  movw $FAR_JOURNAL, %dx
  insb
  insw
  insl
  movl %edi, %eax
  emit
  movw $0x7000, %si
  lodsl
  emit
  movw $0x7000, %si
  outsb
  outsw
  outsl
  movl %esi, %eax
  emit
  finish
endguest port_string_16

guest port_string_32, 32
  cld
  movl $DATA, %edi
  movw $FAR_JOURNAL, %dx
  insb
  insw
  insl
  movl %edi, %eax
  emit
  movl $DATA, %esi
  lodsl
  emit
  movl $DATA, %esi
  outsb
  outsw
  outsl
  movl %esi, %eax
  emit
  finish
endguest port_string_32

guest port_string_64, 64
  cld
  movl $DATA, %edi
  movw $FAR_JOURNAL, %dx
  insb
  insw
  insl
  movq %rdi, %rax
  emit64
  movl $DATA, %esi
  lodsl
  emit
  movl $DATA, %esi
  outsb
  outsw
  outsl
  movq %rsi, %rax
  emit64
  finish
endguest port_string_64

// The count runs down to zero and the pointer moves on; the port is accessed once an element.
guest port_rep, 64
  cld
  movl $DATA, %edi
  movl $3, %ecx
  movw $FAR_JOURNAL, %dx
  rep insw
  movq %rcx, %rax
  emit64
  movq %rdi, %rax
  emit64
  movl $DATA, %esi
  movl $3, %ecx
  rep outsw
  movq %rcx, %rax
  emit64
  movq %rsi, %rax
  emit64
  finish
endguest port_rep

// DF = 1: downwards.
guest port_rep_backwards, 64
  movl $DATA + 8, %esi
  movl $0x11111111, DATA + 8
  movl $0x22222222, DATA + 4
  movl $0x33333333, DATA
  std
  movl $3, %ecx
  movw $FAR_JOURNAL, %dx
  rep outsl
  movq %rsi, %rax
  emit64
  movl $DATA + 0x108, %edi
  movl $3, %ecx
  rep insl
  cld
  movq %rdi, %rax
  emit64
  movl DATA + 0x108, %eax
  emit
  movl DATA + 0x100, %eax
  emit
  finish
endguest port_rep_backwards

// A count of zero touches nothing, not even memory that is not there.
guest port_rep_zero, 64
  cld
  movabsq $0x7fffffff0000, %rdi
  movq %rdi, %rsi
  xorl %ecx, %ecx
  movw $FAR_JOURNAL, %dx
  rep insb
  rep outsl
  movq %rdi, %rax
  emit64
  movq %rsi, %rax
  emit64
  finish
endguest port_rep_zero

// The elements lie on both sides of a page boundary, one of them across it.
guest port_rep_across_page, 64
  cld
  movl $DATA + 0xffa, %edi
  movl $3, %ecx
  movw $FAR_JOURNAL, %dx
  rep insl
  movl DATA + 0xffe, %eax
  emit
  movl $DATA + 0xffa, %esi
  movl $3, %ecx
  rep outsl
  movq %rsi, %rax
  emit64
  finish
endguest port_rep_across_page

// Longer than any buffer between the processor and the device: 2500 elements.
guest port_rep_long, 64
  cld
  movl $DATA, %edi
  movl $2500, %ecx
  movw $FAR_JOURNAL, %dx
  rep insl
  movq %rdi, %rax
  emit64
  movl DATA + 9996, %eax
  emit
  movl DATA + 10000, %eax
  emit
  finish
endguest port_rep_long

// With a 32-bit address size the count is ECX and the pointer is EDI; results are zero-extended.
guest port_rep_address32, 64
  cld
  movabsq $0x100000002, %rcx
  movabsq $0x1100000000 + DATA, %rdi
  movw $FAR_JOURNAL, %dx
  addr32 rep insb
  movq %rcx, %rax
  emit64
  movq %rdi, %rax
  emit64
  finish
endguest port_rep_address32

// With a 16-bit address size the count is CX, the pointer is DI and wraps at 64 KiB; the upper halves stay.
guest port_rep_address16, 32
  cld
  movl $0x50003, %ecx
  movl $0x60000 + 0xfffe, %edi
  movw $FAR_JOURNAL, %dx
  addr16 rep insb
  movl %ecx, %eax
  emit
  movl %edi, %eax
  emit
  movzbl 0xffff, %eax
  emit
  movzbl 0x0, %eax
  emit
  finish
endguest port_rep_address16

// OUTS reads through the segment that a prefix names, INS writes through ES whatever the prefix.
guest port_string_segment, 16
  cld
  movw $0x2000, %ax
  movw %ax, %fs
  movw $0x3000, %ax
  movw %ax, %es
  movl $0x31323334, %fs:0
  xorw %si, %si
  movw $FAR_JOURNAL, %dx
  fs outsl
  movw $0x7000, %di
  fs insl
  movl %es:0x7000, %eax
  emit
  movl %fs:0x7000, %eax
  emit
  finish
endguest port_string_segment
