// From a loader to Swift's main.
//
// The image has three doors. Multiboot 1 and PVH (Xen's HVM direct boot) both come in at native_entry32, in flat 32-bit
// protected mode without paging; EAX or the structure at EBX tells them apart, which is left to Swift. A loader that
// only knows ELF starts at native_entry64, in long mode with page tables of its own.
//
// All tables that the processor needs (pages, GDT, TSS, IDT) are data in the image: nothing is computed here, so that
// entering costs some thirty instructions even where each is emulated.

#define MULTIBOOT_MAGIC 0x1BADB002
#define MULTIBOOT_FLAGS 0x00010003  /* modules on page boundaries, memory map, address fields valid */
#define XEN_ELFNOTE_PHYS32_ENTRY 18

#define PAGE_USER 0x7  /* present, writable, user: the lower levels decide */
#define PAGE_2M 0x83  /* present, writable, large */
#define PAGE_2M_UNCACHED 0x9b

  .section .native.header, "ax"
  .balign 4
multiboot_header:
  .long MULTIBOOT_MAGIC
  .long MULTIBOOT_FLAGS
  .long -(MULTIBOOT_MAGIC + MULTIBOOT_FLAGS)
  .long multiboot_header
  .long native_image_start
  .long native_image_end
  .long native_bss_end
  .long native_entry32

  .section .note.Xen, "a", @note
  .balign 4
  .long 4, 8, XEN_ELFNOTE_PHYS32_ENTRY
  .asciz "Xen"
  .quad native_entry32

  .text
  .code32
  .globl native_entry32
native_entry32:
  cld
  mov %eax, native_boot_registers
  mov %ebx, native_boot_registers + 4
  mov $0x620, %eax  // CR4: PAE, OSFXSR, OSXMMEXCPT
  mov %eax, %cr4
  mov $native_pml4, %eax
  mov %eax, %cr3
  mov $0xc0000080, %ecx  // EFER: LME, SCE
  rdmsr
  or $0x101, %eax
  wrmsr
  mov $0x80010033, %eax  // CR0: PG, WP, NE, ET, MP, PE
  mov %eax, %cr0
  lgdt native_gdt_pointer
  ljmp $0x08, $native_long_mode

  .code64
  .globl native_entry64
native_entry64:
  cli
  cld
  mov $0x620, %eax
  mov %rax, %cr4
  mov $native_pml4, %eax
  mov %rax, %cr3
  mov $0xc0000080, %ecx
  rdmsr
  or $0x101, %eax
  wrmsr
  mov $0x80010033, %eax
  mov %rax, %cr0
  lgdt native_gdt_pointer
  mov $native_boot_stack_end, %esp
  pushq $0x08
  pushq $native_long_mode
  lretq

native_long_mode:
  mov $0x10, %eax
  mov %eax, %ss
  mov %eax, %ds
  mov %eax, %es
  xor %eax, %eax
  mov %eax, %fs
  mov %eax, %gs
  mov $native_boot_stack_end, %esp
  lidt native_idt_pointer
  mov $0x30, %eax
  ltr %ax
  xor %edi, %edi
  xor %esi, %esi
  call main
  mov %eax, %edi
  jmp native_exit

  .globl native_call_on_stack
native_call_on_stack:
  push %rbp
  mov %rsp, %rbp
  mov %rdi, %rsp
  call *%rsi
  mov %rbp, %rsp
  pop %rbp
  ret

  .data
  .globl native_boot_registers
native_boot_registers: .long 0, 0

native_gdt_pointer:
  .word native_gdt_end - native_gdt - 1
  .quad native_gdt
  .globl native_idt_pointer
native_idt_pointer:
  .word 256 * 16 - 1
  .quad native_idt

// The order is SYSRET's: user data eight bytes after its base, 64-bit user code sixteen.
  .balign 16
  .globl native_gdt, native_gdt_end
native_gdt:
  .quad 0
  .quad 0x00af9b000000ffff  // 0x08 kernel code, 64 bits
  .quad 0x00cf93000000ffff  // 0x10 kernel data
  .quad 0x00cffb000000ffff  // 0x18 user code, 32 bits
  .quad 0x00cff3000000ffff  // 0x20 user data
  .quad 0x00affb000000ffff  // 0x28 user code, 64 bits
  .word 103, native_tss_low  // 0x30 task state: 64 bits, present
  .byte native_tss_middle, 0x89, 0, native_tss_high
  .quad 0
  .quad 0x00cf9b000000ffff  // 0x40 kernel code, 32 bits: other processors on their way
native_gdt_end:

// Only the stack for traps from user mode is used. No interrupt stack table: a kernel whose stack is gone can't report
// it and ends in a triple fault, which is what `crash stack-overflow` is for.
  .balign 16
  .globl native_tss
native_tss:
  .long 0
  .quad 0  // RSP0
  .fill 88, 1, 0
  .word 0, 104  // I/O map beyond the limit: user mode has no ports

// Identity: 1 GiB cached, and the last GiB below 4 GiB uncached, for the local APIC. 2 MiB pages, kernel only.
  .balign 4096
  .globl native_pml4, native_pdpt
native_pml4:
  .quad native_pdpt + PAGE_USER
  .fill 511, 8, 0
native_pdpt:
  .quad low_directory + PAGE_USER, 0, 0, high_directory + PAGE_USER
  .fill 508, 8, 0
low_directory:
  .set page, 0
  .rept 512
  .quad (page << 21) + PAGE_2M
  .set page, page + 1
  .endr
high_directory:
  .set page, 0
  .rept 512
  .quad (page << 21) + (3 << 30) + PAGE_2M_UNCACHED
  .set page, page + 1
  .endr

  .bss
  .balign 4096
  .fill 32768, 1, 0
native_boot_stack_end:
