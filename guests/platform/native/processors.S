// Where the other processors start: in real mode, at a page below 1 MiB to which the first processor has copied the few
// instructions between native_trampoline and its end. From there they go through protected mode to long mode with the
// tables that the first one uses, take a number and a stack, and call Swift.

#define PROCESSOR_LIMIT 256

  .section .text.processors, "ax"
  .globl native_trampoline, native_trampoline_end
  .code16
native_trampoline:
  cli
  mov %cs, %ax
  mov %ax, %ds
  lgdtl gdt_pointer - native_trampoline
  mov %cr0, %eax
  or $1, %al
  mov %eax, %cr0
  ljmpl $0x40, $processor_entry32
  .balign 4
gdt_pointer:
  .word 9 * 8 - 1
  .long native_gdt
native_trampoline_end:

  .code32
processor_entry32:
  mov $0x10, %eax
  mov %eax, %ds
  mov %eax, %ss
  mov %eax, %es
  mov $0x620, %eax  // as in entry.S
  mov %eax, %cr4
  mov $native_pml4, %eax
  mov %eax, %cr3
  mov $0xc0000080, %ecx
  rdmsr
  or $0x101, %eax
  wrmsr
  mov $0x80010033, %eax
  mov %eax, %cr0
  ljmp $0x08, $processor_entry64

  .code64
processor_entry64:
  lidt native_idt_pointer
  mov $1, %edi
  lock xadd %edi, processors_started
  cmp $PROCESSOR_LIMIT, %edi
  jae done
  mov %edi, %eax
  shl $12, %eax
  lea processor_stacks(%rax), %rsp  // the first stack ends here: number 1 is the first to take one
  call *native_processor_function
done:
  cli
  hlt
  jmp done

  .data
  .balign 4
processors_started: .long 1

  .section .bss.processors, "aw", @nobits
  .balign 4096
processor_stacks:
  .fill 4096 * (PROCESSOR_LIMIT - 1), 1, 0
  .globl native_processor_function
native_processor_function: .quad 0
