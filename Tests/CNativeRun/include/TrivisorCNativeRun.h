// Runs instructions on the host's processor at CPL 3, from a given state to the first exception, and tells both.
//
// One thread of a process, once made ready, runs them at fixed addresses; the exception arrives as a signal, whose frame
// has the registers. What is run may do anything to its registers: RSP, FS and GS bases, the direction and alignment
// flags are taken back before anything of the process runs. System calls from the region are refused by seccomp.
#pragma once

#include <stdint.h>

enum : uint64_t {
  // Vector of a result that is no exception: the code did not end, or called the host's system.
  CNR_ENDLESS = 0x100,
  CNR_SYSTEM_CALL = 0x101,
};

// Must lie at a multiple of 64.
struct cnr_state {
  uint64_t general[16]; // by register number
  uint64_t flags, rip, fs_base, gs_base;
  uint64_t vector, error_code, address; // results: the exception, CR2
  uint64_t reserved;
  uint8_t extended[832]; // XSAVE, standard format: x87, SSE, AVX
};

// Makes the calling thread and process ready, for good: handlers, a clock that ends endless loops, seccomp for the region
// of addresses below 4 GiB. Handlers that others installed before go on to get what is not ours. An alternate signal stack
// must be there. 0 or an errno.
int cnr_prepare(uint32_t region, uint32_t size);

// Runs from `state` to an exception, and puts what came of it in its place.
void cnr_run(struct cnr_state *_Nonnull state);
