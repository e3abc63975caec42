// Offsets in the structures that a domain shares with its hypervisor (64-bit; Xen's public headers xen.h,
// io/console.h, io/xs_wire.h).
#pragma once

#define XEN_START_SHARED_INFO 40
#define XEN_START_FLAGS 48
#define XEN_START_STORE_FRAME 56
#define XEN_START_STORE_PORT 64
#define XEN_START_CONSOLE_FRAME 72
#define XEN_START_CONSOLE_PORT 80
#define XEN_START_COMMAND_LINE 128
