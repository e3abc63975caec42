#pragma once

#include <stdint.h>

uint64_t attack_call(uint64_t number);
uint64_t attack_interrupt(uint64_t number);
uint64_t attack_vsyscall(uint64_t address);
uint64_t attack_compatibility(uint64_t way);
uint64_t attack_sigreturn(uint64_t address, uint64_t frame);
uint64_t attack_stack(uint64_t pointer);
uint64_t attack_flags(uint64_t flags);
uint64_t attack_load_selector(uint64_t selector);
uint64_t attack_keys(uint64_t denied, uint64_t stores);
uint64_t attack_system_entry(void);
void attack_store(uint64_t address, uint64_t value);
_Noreturn void attack_store_loop(uint64_t address);
void attack_jump_with(uint64_t address, uint64_t all);
uint64_t attack_jump(uint64_t address, uint64_t rax, uint64_t rdi);

#define ATTACK_ADDRESS(name) \
  static inline uint64_t name##_address(void) { extern const char name[]; return (uint64_t)name; }
ATTACK_ADDRESS(attack_trap_point)
ATTACK_ADDRESS(attack_spin)
ATTACK_ADDRESS(attack_invalid)
#undef ATTACK_ADDRESS

static inline uint64_t attackStackPointer(void) {
  extern const uint64_t attack_stack_pointer;
  return *(const volatile uint64_t *)&attack_stack_pointer;
}

// Where a piece of user code is in the user's program.
#define USER_PIECE(name) \
  static inline uint64_t user_##name##_offset(void) { \
    extern const char user_##name[], user_program_start[]; \
    return (uint64_t)user_##name - (uint64_t)user_program_start; \
  }
USER_PIECE(compatibility)
USER_PIECE(sysenter)
USER_PIECE(keys)
USER_PIECE(restore)
USER_PIECE(sigreturn)
USER_PIECE(spin)
USER_PIECE(trap)
USER_PIECE(x87)
USER_PIECE(simd)
USER_PIECE(amx)
USER_PIECE(shadow)
USER_PIECE(far)
USER_PIECE(bases)
USER_PIECE(int1)
USER_PIECE(status)
USER_PIECE(store)
USER_PIECE(stop)
#undef USER_PIECE
