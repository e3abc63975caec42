// The table of instructions.S, and what its rows are told and tell.
#pragma once

#include <stdint.h>

#include "../platform/KnownState.h"

struct InstructionRow {
  const char *_Nonnull name;
  uint64_t user, kernel;  // where the row's code for a mode begins; 0: there is none
  uint64_t flags;
};

enum : uint64_t {
  rowVariesInUserMode = 1,    // the result depends on the processor model
  rowVariesInKernelMode = 2,
  rowNeedsTimer = 4,
  rowIsRare = 8               // monitors that emulate kernel code were seen to refuse it
};

enum : uint64_t {
  resultNoEffect = 0,
  resultRightEffect = 1,
  resultOwnValue = 2,
  resultOtherValue = 3,
  resultRan = 4
};

static inline uint64_t instructionRowCount(void) {
  extern const struct InstructionRow instruction_rows[], instruction_rows_end[];
  return (uint64_t)(instruction_rows_end - instruction_rows);
}

static inline struct InstructionRow instructionRow(uint64_t index) {
  extern const struct InstructionRow instruction_rows[];
  return instruction_rows[index];
}

// Where user code returns to: a system call with the result in RAX.
static inline uint64_t instructionsReturn(void) {
  extern const char instructions_return[];
  return (uint64_t)instructions_return;
}

// Calls kernel code of a row with the page of a KnownState; returns its result, or attemptTrapped if a trap handler
// went on at attemptTrapPoint() with the stack pointer attemptStack().
uint64_t attempt(uint64_t code, struct KnownState *_Nonnull state);

enum : uint64_t { attemptTrapped = 0x100 };

static inline uint64_t attemptTrapPoint(void) {
  extern const char attempt_trap_point[];
  return (uint64_t)attempt_trap_point;
}

static inline uint64_t attemptStack(void) {
  extern const uint64_t attempt_stack;
  return *(const volatile uint64_t *)&attempt_stack;
}
