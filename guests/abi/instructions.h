// The table of abi/instructions.S.
#pragma once

#include <stdint.h>

struct ABIRow { const char *_Nonnull name; uint64_t code; };

static inline uint64_t abiRowCount(void) {
  extern const struct ABIRow abi_rows[], abi_rows_end[];
  return (uint64_t)(abi_rows_end - abi_rows);
}

static inline struct ABIRow abiRow(uint64_t index) {
  extern const struct ABIRow abi_rows[];
  return abi_rows[index];
}

uint64_t abi_attempt(uint64_t code, uint64_t page);
uint64_t abi_raw_call(void);
// EBX of leaf 0x40000000.
uint64_t abi_hypervisor_name(void);

#define ABI_ADDRESS(name) \
  static inline uint64_t name##_address(void) { extern const char name[]; return (uint64_t)name; }
ABI_ADDRESS(abi_return)
ABI_ADDRESS(abi_system_call)
ABI_ADDRESS(abi_trap_point)
ABI_ADDRESS(abi_raw_entry)
ABI_ADDRESS(abi_store)
ABI_ADDRESS(abi_load_fs)
#undef ABI_ADDRESS

static inline uint64_t abiStack(void) {
  extern const uint64_t abi_stack;
  return *(const volatile uint64_t *)&abi_stack;
}

static inline uint64_t abiRawWord(int index) {
  extern const uint64_t abi_raw_words[8];
  return ((const volatile uint64_t *)abi_raw_words)[index];
}
