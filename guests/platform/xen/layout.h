// Offsets in the structures that a domain shares with its hypervisor (64-bit; Xen's public headers xen.h,
// io/console.h, io/xs_wire.h).
#pragma once

#define XEN_START_SHARED_INFO 40
#define XEN_START_FLAGS 48
#define XEN_START_STORE_FRAME 56
#define XEN_START_STORE_PORT 64
#define XEN_START_CONSOLE_FRAME 72
#define XEN_START_CONSOLE_PORT 80
#define XEN_START_PAGE_TABLES 88
#define XEN_START_FRAME_LIST 104
#define XEN_START_COMMAND_LINE 128

// In shared_info, with the first processor's vcpu_info at its beginning.
#define XEN_INFO_PENDING 0
#define XEN_INFO_MASK 1
#define XEN_INFO_SELECTOR 8
#define XEN_INFO_FAULT_ADDRESS 16
#define XEN_SHARED_PENDING 2048
#define XEN_SHARED_MASK 2560

// struct vcpu_guest_context.
#define XEN_CONTEXT_SIZE 5168
#define XEN_CONTEXT_FLAGS 512
#define XEN_CONTEXT_RBX 560
#define XEN_CONTEXT_RDI 632
#define XEN_CONTEXT_RIP 648
#define XEN_CONTEXT_CS 656
#define XEN_CONTEXT_RFLAGS 664
#define XEN_CONTEXT_RSP 672
#define XEN_CONTEXT_SS 680
#define XEN_CONTEXT_KERNEL_SS 4968
#define XEN_CONTEXT_KERNEL_SP 4976
#define XEN_CONTEXT_ROOT 5008

// Where the image begins, as its notes say.
#define XEN_VIRTUAL_BASE 0x400000
