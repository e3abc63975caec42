// Interrupts translated code between two instructions of the host. Breakpoints stand wherever that many instructions lead from where
// the code goes on, and are taken away before anything else runs; what leads to a place that is not known before, like a jump
// through a register, is stepped over by the processor's trap flag. (All by the trap flag would take ten times as long.)
#pragma once

#include <stdint.h>

// A place in translated code, and how many instructions further the interruption is to be; 0: here.
struct css_place {
  uint64_t address;
  uint32_t remaining;
};

enum { CSS_STEP = -1 };

// Called on the thread that is interrupted, between two instructions of translated code, on the stack for signals.
// - Returns: how many instructions later it is to be called again; 0: not before `css_begin`.
typedef uint32_t (*css_interruption)(void *_Nonnull context);

// Finds the places where code that goes on at `address` is after `count` instructions, or before an instruction that may lead
// anywhere.
// - Returns: how many there are, at most `capacity`; CSS_STEP if the first instruction is one that may lead anywhere.
typedef int32_t (*css_walk)(
  uint64_t address, uint32_t count, struct css_place *_Nonnull places, uint32_t capacity);

// Installs the handler, behind the engine's own, for the process. 0 or an errno.
int css_install(css_interruption _Nonnull interruption, css_walk _Nonnull walk);

// When the calling thread enters translated code, it is interrupted so many instructions later; just before `cws_enter`.
// - Returns: 0, or an errno where the host lets no code be written to.
int css_begin(void *_Nonnull context, uint32_t count);
// Behind it.
void css_end(void);
// Before a machine's first code: where the last one's lay, that of this one may lie.
void css_reset(void);

// Whether breakpoints stand: nobody else may go on then.
int css_is_armed(void);

// Translated code of the machine that the calling thread runs: where it begins, and its size.
uint64_t css_code_base(void);
// In bytes.
uint64_t css_code_size(void);
// The address in a word of the calling thread's state, `offset` bytes from its start.
uint64_t css_state_word(int64_t offset);
// Whether code that jumps there goes to a helper, and comes back.
int css_is_helper(uint64_t address);

// The process runs on the processor of the host that it is on, from now on; where the host refuses, as before.
void css_stay(void);
