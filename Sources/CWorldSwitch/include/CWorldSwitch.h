// Between Swift and translated code: the state block, the two ways across, and the host's fault signals.
//
// While translated code runs, nearly every host register belongs to the guest, RSP included, and %gs points at the
// state block. Swift never runs on a guest's stack: it calls `cws_enter`, which loads the guest's registers and jumps
// into the code cache; that code comes back by jumping (not returning) to one of the exits, which saves the guest's
// registers here, takes the host's stack back and returns to Swift. A fault of the host in translated code ends the same
// way: the signal handler notes what happened and continues the thread at the exit.
#pragma once

#include <stdint.h>

// The offsets are known to switch.S and, through `offsetof`, to the translator.
struct cws_state {
  uint64_t general[16];     // guest registers by number; RAX is in host R11, R10, R11 and R15 only live here
  uint64_t flags;           // arithmetic flags as `lahf; seto %al` leaves them
  uint64_t host_rsp;
  uint64_t target;          // where cws_enter goes
  uint64_t exit_host_flags; // address of the exit for guest flags that are in the host's flags
  uint64_t exit_rax_flags;  // and for those that are in RAX
  uint64_t site;            // which exit was taken
  uint64_t address;         // linear address of the access that missed
  uint64_t scratch[2];
  uint64_t rip;             // where an indirect jump wants to go
  uint64_t fs_base, gs_base;
  uint32_t mxcsr, host_mxcsr;
  uint64_t signal_vector;   // what the host's processor raised, or CWS_NO_SIGNAL
  uint64_t signal_rip, signal_flags, signal_address;
  uint64_t cache_base, cache_size;
  uint64_t t1, t2;          // the check temporaries, host R10 and R15, on entry
  uint64_t reserved[3];
  uint8_t vector[16][32];   // YMM0 to YMM15
  uint8_t x87[512];         // FXSAVE layout; the block begins on a page, so this is aligned
};

enum : uint64_t { CWS_NO_SIGNAL = ~0ull };

// Runs translated code from `state->target` until it takes an exit. The thread must have been prepared.
void cws_enter(struct cws_state *_Nonnull state);

// Addresses of the exits.
uint64_t cws_exit_host_flags_address(void);
uint64_t cws_exit_rax_flags_address(void);

// Points the calling thread's %gs at the state block and gives it an alternate signal stack. 0 or an errno.
int cws_prepare_thread(struct cws_state *_Nonnull state);
// Takes that back.
void cws_release_thread(void);
// Handlers for SIGSEGV, SIGBUS, SIGFPE, SIGILL and SIGTRAP; once a process. 0 or an errno.
int cws_install_handlers(void);

// The guest's x87 state to and from the state block; the processor's own afterwards is the initial one.
void cws_load_x87(struct cws_state *_Nonnull state);
void cws_save_x87(struct cws_state *_Nonnull state);

// The x87 status word, while the guest's state is in the processor. Bit 7: an exception that is not masked is pending.
static inline uint16_t cws_x87_status(void) {
  uint16_t status;
  __asm__ volatile("fnstsw %0" : "=a"(status));
  return status;
}

// Whether the x87 store before has not stored: invalid, overflow or underflow, not masked.
static inline int cws_x87_error_before_store(void) {
  uint16_t control;
  __asm__ volatile("fnstcw %0" : "=m"(control));
  return (cws_x87_status() & ~control & 0x19) != 0;
}

// What the engine needs of the host's processor: AVX2, BMI2, LAHF in 64-bit mode.
int cws_host_has_features(void);

static inline uint64_t cws_timestamp(void) {
  uint32_t low, high;
  __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
  return (uint64_t)high << 32 | low;
}

static inline int cws_compare_exchange(uint64_t *_Nonnull place, uint64_t expected, uint64_t desired) {
  return __atomic_compare_exchange_n(place, &expected, desired, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}
static inline int cws_compare_exchange32(uint32_t *_Nonnull place, uint32_t expected, uint32_t desired) {
  return __atomic_compare_exchange_n(place, &expected, desired, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}
static inline uint32_t cws_load_acquire(const uint32_t *_Nonnull place) {
  return __atomic_load_n(place, __ATOMIC_ACQUIRE);
}
static inline void cws_store_release(uint32_t *_Nonnull place, uint32_t value) {
  __atomic_store_n(place, value, __ATOMIC_RELEASE);
}
