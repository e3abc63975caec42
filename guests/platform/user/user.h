// All that a user program of ours has besides its own code: one way into the kernel.
#pragma once

#include <stdint.h>

// RAX: the number, and the result on return. RDI, RSI: arguments. All other registers are kept.
uint64_t user_system_call(uint64_t first, uint64_t second, uint64_t number);

static inline uint64_t systemCall(uint64_t number, uint64_t first, uint64_t second) {
  return user_system_call(first, second, number);
}

// Accesses that happen exactly as written, wherever the address leads.
static inline uint64_t readWord(uint64_t address) { return *(volatile uint64_t *)address; }
static inline void writeWord(uint64_t address, uint64_t value) { *(volatile uint64_t *)address = value; }

// The ways to trap that need an instruction of their own.
static inline void divideByZero(void) { __asm__ volatile("xor %%ecx, %%ecx; div %%ecx" : : : "rax", "rcx", "rdx"); }

// Cycles.
static inline uint64_t readTimestamp(void) {
  uint32_t low, high;
  __asm__ volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
  return ((uint64_t)high << 32) | low;
}

// A loop that calls a function which does nothing.
static inline void callAndReturn(uint64_t count) {
  __asm__ volatile("1: call 3f; dec %0; jnz 1b; jmp 2f; 3: ret; 2:" : "+r"(count) : : "memory", "cc");
}

static inline void executeInvalidInstruction(void) { __asm__ volatile("ud2"); }
