// All that a user program of ours has besides its own code: one way into the kernel.
#pragma once

#include <stdint.h>

// RAX: the number, and the result on return. RDI, RSI: arguments. All other registers are kept.
uint64_t user_system_call(uint64_t first, uint64_t second, uint64_t number);

static inline uint64_t systemCall(uint64_t number, uint64_t first, uint64_t second) {
  return user_system_call(first, second, number);
}
