// From a multiboot loader to Swift's main without leaving 32-bit protected mode.

#define MULTIBOOT_MAGIC 0x1BADB002
#define MULTIBOOT_FLAGS 0x00000003  /* modules on page boundaries, memory map; the ELF headers say the rest */

  .section .native.header, "ax"
  .balign 4
  .long MULTIBOOT_MAGIC
  .long MULTIBOOT_FLAGS
  .long -(MULTIBOOT_MAGIC + MULTIBOOT_FLAGS)

  .text
  .globl native_entry32
native_entry32:
  cld
  mov $stack_end, %esp
  mov %eax, native_boot_registers
  mov %ebx, native_boot_registers + 4
  push $0
  push $0
  call main
  push %eax
  call native_exit

  .data
  .balign 4
  .globl native_boot_registers
native_boot_registers: .long 0, 0

  .bss
  .balign 16
  .fill 16384, 1, 0
stack_end:
