// A Xen PV domain's first steps (Xen's public headers: elfnote.h, xen.h).
//
// The domain begins in 64-bit mode, deprivileged, with page tables that the domain builder made: RSI points at
// start_info, RSP is the top of a small boot stack. There is nothing to switch on and no table to load: that is what
// paravirtualization leaves out.

#include "layout.h"

#define NOTE_ENTRY 1
#define NOTE_HYPERCALL_PAGE 2
#define NOTE_VIRT_BASE 3
#define NOTE_PADDR_OFFSET 4
#define NOTE_XEN_VERSION 5
#define NOTE_GUEST_OS 6
#define NOTE_LOADER 8

.macro note type, kind:req, value:vararg
  .balign 4
  .long 4, 2f - 1f, \type
  .asciz "Xen"
1:
  \kind \value
2:
.endm

  .section .note.Xen, "a", @note
  note NOTE_GUEST_OS, .asciz, "trivisor-guest"
  note NOTE_XEN_VERSION, .asciz, "xen-3.0"
  note NOTE_LOADER, .asciz, "generic"
  note NOTE_VIRT_BASE, .quad, XEN_VIRTUAL_BASE
  note NOTE_PADDR_OFFSET, .quad, XEN_VIRTUAL_BASE
  note NOTE_ENTRY, .quad, xen_entry
  note NOTE_HYPERCALL_PAGE, .quad, xen_hypercall_page
  .balign 4

  .text
  .globl xen_entry
xen_entry:
  cld
  mov $xen_boot_stack_end, %esp
  mov %rsi, xen_start_info
  xor %edi, %edi
  xor %esi, %esi
  call xen_prepare
  xor %edi, %edi
  xor %esi, %esi
  call main
  mov %eax, %edi
  jmp xen_exit

// uint64_t xen_hypercall(number, a1, a2, a3, a4): the hypervisor fills the page, 32 bytes a call.
  .globl xen_hypercall, xen_hypercall_page
xen_hypercall:
  mov %rdi, %rax
  shl $5, %eax
  add $xen_hypercall_page, %rax
  mov %rsi, %rdi
  mov %rdx, %rsi
  mov %rcx, %rdx
  mov %r8, %r10
  jmp *%rax

  .globl xen_call_on_stack
xen_call_on_stack:
  push %rbp
  mov %rsp, %rbp
  mov %rdi, %rsp
  call *%rsi
  mov %rbp, %rsp
  pop %rbp
  ret

  .section .text.hypercalls, "ax"
  .balign 4096
xen_hypercall_page:
  .fill 4096, 1, 0xcc

  .data
  .balign 8
  .globl xen_start_info
xen_start_info: .quad 0

// Where the hypervisor's shared page is mapped: a page of the image's own that gives its place.
  .bss
  .balign 4096
  .globl xen_shared_page, xen_console_page, xen_store_page
xen_shared_page: .fill 4096, 1, 0
xen_console_page: .fill 4096, 1, 0
xen_store_page: .fill 4096, 1, 0
  .fill 32768, 1, 0
xen_boot_stack_end:
