#pragma once

#include <stdint.h>

// The user program in this kernel's image, as platform/user/program.S embeds it.
static inline uint64_t userProgramStart(void) {
  extern const char user_program_start[];
  return (uint64_t)user_program_start;
}

static inline uint64_t userProgramEnd(void) {
  extern const char user_program_end[];
  return (uint64_t)user_program_end;
}
