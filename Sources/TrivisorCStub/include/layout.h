// The sandbox's address space and the structures that it shares with the monitor, for C and assembly.
//
//     0 … CSTUB_CODE                 the guest's
//     CSTUB_CODE                     one page: an ELF header and the stub's code, readable and executable
//     CSTUB_CONFIGURATION            written by the monitor, mapped read-only here: filters, mapping requests
//     CSTUB_FRAMES                   shared and writable: one area for the mapper, then one for each guest thread
//     CSTUB_WINDOW                   read-only: the piece of guest memory that guest code reads at an address of the upper half
//     up to the end                  nothing
#pragma once

#define CSTUB_CODE 0x7f0000000000
#define CSTUB_ENTRY_OFFSET 0x100
#define CSTUB_CONFIGURATION 0x7f0000010000
#define CSTUB_CONFIGURATION_SIZE 0x10000
#define CSTUB_FRAMES 0x7f0000100000
#define CSTUB_AREA_SIZE 0x8000
#define CSTUB_WINDOW 0x7f1000000000
#define CSTUB_ADDRESS_SPACE_END 0x7ffffffff000

// Descriptors that the stub begins with. Guest threads close all of them.
#define CSTUB_FD_MEMORY 3
#define CSTUB_FD_SHARED 4
#define CSTUB_FD_REQUEST 5
#define CSTUB_FD_DONE 6

// Offsets in the configuration.
#define CSTUB_CONF_THREADS 0x00
#define CSTUB_CONF_SPIN 0x04
#define CSTUB_CONF_REQUESTS 0x08
#define CSTUB_CONF_SIGNALS 0x10       // numbers, a byte each, ended by 0
#define CSTUB_CONF_ACTION 0x20        // struct kernel_sigaction
#define CSTUB_CONF_ALL 0x40           // a signal set with everything
#define CSTUB_CONF_NONE 0x48          // and one with nothing
#define CSTUB_CONF_GUEST_FILTER 0x50  // struct sock_fprog
#define CSTUB_CONF_MAPPER_FILTER 0x60
#define CSTUB_CONF_SEGMENT_COUNT 0x70  // segments of the local descriptor table: struct user_desc, one after the other
#define CSTUB_CONF_SEGMENTS 0x80
#define CSTUB_SEGMENT_SIZE 16
#define CSTUB_CONF_WINDOW_ADDRESS 0xa0  // where guest code reads it
#define CSTUB_CONF_WINDOW_SIZE 0xa8     // in bytes; 0: there is none
#define CSTUB_CONF_WINDOW_OFFSET 0xb0   // in guest memory's file
#define CSTUB_CONF_PROGRAMS 0x100
#define CSTUB_CONF_RESULTS 0x800  // quadwords 1, 2, 3, …: what the mapper writes to its descriptor, errno plus one
#define CSTUB_CONF_TABLE 0x1000   // mapping requests
#define CSTUB_REQUEST_SIZE 40
#define CSTUB_REQUEST_LIMIT 1500

// Offsets in a guest thread's area; the rest of it is the alternate signal stack.
#define CSTUB_AREA_TURN 0x00             // 0: the guest runs; 1: it has stopped, the monitor's turn
#define CSTUB_AREA_STUB_SLEEPS 0x04      // the stub waits in futex for the turn
#define CSTUB_AREA_MONITOR_SLEEPS 0x08   // the monitor does
#define CSTUB_AREA_TID 0x0c
#define CSTUB_AREA_SIGNAL 0x10
#define CSTUB_AREA_SIGINFO 0x18
#define CSTUB_AREA_CONTEXT 0x20
#define CSTUB_AREA_FS_BASE 0x28
#define CSTUB_AREA_GS_BASE 0x30
#define CSTUB_AREA_STACK 0x38  // stack_t
#define CSTUB_AREA_STACK_FLAGS 0x40
#define CSTUB_AREA_STACK_SIZE 0x48
#define CSTUB_AREA_DATA_SELECTOR 0x50  // for DS, ES, FS, GS when the guest goes on; 0: they stay as they are
#define CSTUB_AREA_SERVES 0x54         // whether the stub answers Xen's set_segment_base and loads from the window by itself
#define CSTUB_AREA_SERVED 0x58         // how often it has done the former, modulo 2^32
#define CSTUB_AREA_SERVED_LOADS 0x5c   // and the latter
#define CSTUB_AREA_LAST_LOAD 0x60      // at which count of the latter the next one is handed over
#define CSTUB_AREA_STACK_BOTTOM 0x100

// Selectors of the segments for 32-bit guest code: entries 0 and 1 of the local descriptor table, privilege level 3.
#define CSTUB_CODE_SELECTOR_32 0x07
#define CSTUB_DATA_SELECTOR_32 0x0f
