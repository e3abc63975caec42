// A child process that runs a few instructions natively: the oracle of the rewriting technique's differential tests.
//
// It is stopped and resumed by ptrace, with all registers, selectors included, set before and read after. Its local
// descriptor table has the segments that the tests ask for, and its memory at `base` is shared with this process.
#pragma once

#include <stdint.h>

struct ctp_state {
  uint64_t general[16];  // by their number in encodings
  uint64_t rip, rflags;
  uint64_t fs_base, gs_base;
  uint16_t selectors[6];  // ES, CS, SS, DS, FS, GS
  uint8_t fx[512];        // FXSAVE layout
};

// What ended the run.
struct ctp_result {
  int signal, code;
  uint64_t address;
};

// A descriptor of the local table, as modify_ldt takes it.
struct ctp_segment {
  uint32_t index, base, limit;
  uint8_t contents, is32bit, readExecuteOnly, inPages, notPresent;
};

struct ctp_range {
  uint64_t base, size;
  int protection;
};

// 0 or a positive process id; -1 with errno.
int ctp_start(int memory, const struct ctp_range *_Nonnull ranges, int range_count,
              const struct ctp_segment *_Nonnull segments, int segment_count);
// 0, or -1 when the child is gone or stuck.
int ctp_run(int process, struct ctp_state *_Nonnull state, struct ctp_result *_Nonnull result);
void ctp_end(int process);
