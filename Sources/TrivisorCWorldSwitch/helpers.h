// What the helpers of translated code have in common.
#pragma once

#include "TrivisorCWorldSwitch.h"

#include <stddef.h>

// The guest's vector and x87 registers are in the processor.
#define GENERAL_ONLY __attribute__((target("general-regs-only")))

// Numbers of general registers.
enum { RAX = 0, RCX = 1, RDX = 2, RSP = 4, RSI = 6, RDI = 7, R11 = 11 };

GENERAL_ONLY static inline struct cws_system *system_of(struct cws_state *state) {
  return (struct cws_system *)((char *)state + CWS_SYSTEM);
}

// Where an access of `size` bytes is in this process, if the TLB has its page; `room` is how much of the page is left.
GENERAL_ONLY static inline char *find(
  struct cws_state *state, uint64_t linear, uint64_t size, unsigned view, unsigned is_write, uint64_t *room) {
  uint64_t *table = (uint64_t *)((char *)state + CWS_TLB) + (size_t)(view * 2 + is_write) * 2 * CWS_TLB_ENTRIES;
  uint64_t *entry = table + 2 * (linear >> 12 & (CWS_TLB_ENTRIES - 1));
  uint64_t offset = linear ^ entry[0];
  if (offset > 4096 - size) return NULL;
  *room = 4096 - offset;
  return (char *)(uintptr_t)entry[1] + offset;
}

GENERAL_ONLY uint64_t cws_save_extended(struct cws_state *state);
GENERAL_ONLY uint64_t cws_restore_extended(struct cws_state *state);
