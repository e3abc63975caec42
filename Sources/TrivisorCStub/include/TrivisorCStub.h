// What the monitor needs of the sandboxed process beyond plain memory: its start, and a few Linux calls that Swift's Glibc
// module lacks.
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "layout.h"

enum : uint64_t {
  cstubCode = CSTUB_CODE,
  cstubFrames = CSTUB_FRAMES,
};

// Fills the configuration (CSTUB_CONFIGURATION_SIZE bytes, zero before) for `threads` guest threads, each of which looks
// at its turn `spin` times before it sleeps.
void cstub_configure(void *_Nonnull configuration, uint32_t threads, uint32_t spin);

// Adds segments of 4 GiB for 32-bit code and data, whose address 0 is `base`.
void cstub_configure_segments(void *_Nonnull configuration, uint32_t base);

// A piece of guest memory, `size` bytes from `offset` in its file, of which guest code can load quadwords at `address`, where nothing
// can be mapped.
void cstub_configure_window(void *_Nonnull configuration, uint64_t address, uint64_t size, uint64_t offset);

// Starts a process from the stub's image, with four descriptors and nothing else, in a session of its own, with small
// resource limits, which dies with the calling thread. Returns its ID or -errno.
pid_t cstub_spawn(int memory, int shared, int request, int done);

// FUTEX_WAIT on a word shared between processes, at most `nanoseconds` long; FUTEX_WAKE of one waiter.
void cstub_futex_wait(uint32_t *_Nonnull word, uint32_t value, uint64_t nanoseconds);
void cstub_futex_wake(uint32_t *_Nonnull word);

// A word that another process writes, too. Sequentially consistent.
uint32_t cstub_load(const uint32_t *_Nonnull word);
void cstub_store(uint32_t *_Nonnull word, uint32_t value);
// Sets or clears bits; returns what was there before.
uint32_t cstub_set_bits(uint32_t *_Nonnull word, uint32_t bits);
uint32_t cstub_clear_bits(uint32_t *_Nonnull word, uint32_t bits);

// The processor's time-stamp counter.
uint64_t cstub_timestamp(void);
// CPUID: EAX, EBX, ECX, EDX.
void cstub_identification(uint32_t leaf, uint32_t subleaf, uint32_t *_Nonnull words);

// Whether this host's processor and kernel have protection keys for user code, so that WRPKRU runs.
int cstub_has_protection_keys(void);

// Interrupts a guest thread.
int cstub_kick(pid_t process, pid_t thread);

// Waits until the process has ended, without reaping it, so that its ID stays its own.
int cstub_wait(pid_t process);
// Reaps it. Returns how it ended, as waitpid tells it.
int cstub_reap(pid_t process);

// One memory file: close-on-exec.
int cstub_memory_file(const char *_Nonnull name, uint64_t size);

// Pins the calling thread, or `thread` of another process if not 0, to one processor of the host.
int cstub_pin(pid_t thread, int cpu);
// Lets the calling thread run on all processors that the process's first thread may use.
int cstub_unpin(void);
// The processor that the calling thread runs on.
int cstub_current_cpu(void);
// The processor `number` places after `first`, in a circle, among those that the process's first thread may use.
int cstub_processor_after(int first, uint32_t number);
// Whether memory may become executable that was not, or that can be written (PR_SET_MDWE).
int cstub_may_gain_execution(void);
// Whether the kernel has seccomp filters that make a system call a trap.
int cstub_has_trapping_filters(void);
// Whether a process may have segments of its own (CONFIG_MODIFY_LDT_SYSCALL).
int cstub_has_segments(void);
// Whether user code may read and write its FS and GS base (AT_HWCAP2), and how large the kernel's signal frames are.
int cstub_has_fsgsbase(void);
uint64_t cstub_minimum_signal_stack(void);
