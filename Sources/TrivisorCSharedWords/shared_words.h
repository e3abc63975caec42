// Words in memory that another thread or process writes, too, and instructions that Swift can't say.
#pragma once

#include <cpuid.h>
#include <stdint.h>

// Sequentially consistent.
static inline uint32_t shared_load(const uint32_t *_Nonnull word) { return __atomic_load_n(word, __ATOMIC_SEQ_CST); }
static inline void shared_store(uint32_t *_Nonnull word, uint32_t value) {
  __atomic_store_n(word, value, __ATOMIC_SEQ_CST);
}
// Sets or clears bits; returns what was there before.
static inline uint32_t shared_set_bits(uint32_t *_Nonnull word, uint32_t bits) {
  return __atomic_fetch_or(word, bits, __ATOMIC_SEQ_CST);
}
static inline uint32_t shared_clear_bits(uint32_t *_Nonnull word, uint32_t bits) {
  return __atomic_fetch_and(word, ~bits, __ATOMIC_SEQ_CST);
}
// Replaces a word if it is what is expected; returns what was there before.
static inline uint32_t shared_exchange_if(uint32_t *_Nonnull word, uint32_t expected, uint32_t value) {
  __atomic_compare_exchange_n(word, &expected, value, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
  return expected;
}

// The processor's time-stamp counter.
static inline uint64_t host_timestamp(void) { return __builtin_ia32_rdtsc(); }
// CPUID: EAX, EBX, ECX, EDX.
static inline void host_identification(uint32_t leaf, uint32_t subleaf, uint32_t *_Nonnull words) {
  __cpuid_count(leaf, subleaf, words[0], words[1], words[2], words[3]);
}
