// Between Swift and translated code: the state block, the two ways across, and the host's fault signals.
//
// While translated code runs, nearly every host register belongs to the guest, RSP included, and %gs points at the
// state block. Swift never runs on a guest's stack: it calls `cws_enter`, which loads the guest's registers and jumps
// into the code cache; that code comes back by jumping (not returning) to one of the exits, which saves the guest's
// registers here, takes the host's stack back and returns to Swift. A fault of the host in translated code ends the same
// way: the signal handler notes what happened and continues the thread at the exit.
#pragma once

// The state block's layout: offsets from %gs. This list is the only one. `cws_state` below is checked against it field by
// field; switch.S and the translator (StateLayout) use the names.
#define CWS_GENERAL 0
#define CWS_FLAGS 128
#define CWS_HOST_RSP 136
#define CWS_TARGET 144
#define CWS_EXIT_HOST_FLAGS 152
#define CWS_EXIT_RAX_FLAGS 160
#define CWS_SITE 168
#define CWS_ADDRESS 176
#define CWS_SCRATCH 184
#define CWS_RIP 200
#define CWS_FS_BASE 208
#define CWS_GS_BASE 216
#define CWS_MXCSR 224
#define CWS_HOST_MXCSR 228
#define CWS_SIGNAL_VECTOR 232
#define CWS_SIGNAL_RIP 240
#define CWS_SIGNAL_FLAGS 248
#define CWS_SIGNAL_ADDRESS 256
#define CWS_CACHE_BASE 264
#define CWS_CACHE_SIZE 272
#define CWS_T1 280
#define CWS_T2 288
#define CWS_HELPER 296
#define CWS_CALL 304
#define CWS_OWN 312
#define CWS_VECTOR 320
#define CWS_X87 832
#define CWS_X87_INSTRUCTION_NOTE 1344
#define CWS_X87_OPERAND_NOTE 1348
#define CWS_X87_OPERAND 1352
#define CWS_X87_PAGE 1360
#define CWS_PAGE 1368
// Outside 64-bit mode, by segment register: its base, and one more than the last offset that may be read, and written.
#define CWS_SEGMENT_BASE 2048
#define CWS_SEGMENT_READ_END 2112
#define CWS_SEGMENT_WRITE_END 2176
// `cws_system`.
#define CWS_SYSTEM 2304
// Host addresses that accesses of a block share.
#define CWS_SHARED 3072
// A page that a stop request makes unreadable, the bounce buffer, and where code of CPL 3 is.
#define CWS_POLL 4096
#define CWS_BOUNCE 8192
#define CWS_CODE_TLB 12288

#ifndef __ASSEMBLER__
#include <stddef.h>
#include <stdint.h>

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
  uint64_t helper;          // which, and what else it must know
  uint64_t call;            // address of cws_call
  struct cws_state *_Nullable own;  // its own address
  uint8_t vector[16][32];   // YMM0 to YMM15
  uint8_t x87[512];         // FXSAVE layout; the block begins on a page, so this is aligned
  // Since Swift last looked: numbers of the last x87 instruction and of the last one with an operand in memory, or 0, and
  // the offset of that operand.
  uint32_t x87_instruction_note, x87_operand_note;
  uint64_t x87_operand;
  // `page` at the last x87 instruction.
  uint64_t x87_page;
  // Where the guest has the page of the code in work, if that is code for any linear address; else 0. What such code says
  // of addresses of its own counts from here.
  uint64_t page;
};

#define CWS_IS_AT(field, offset) _Static_assert(offsetof(struct cws_state, field) == (offset), #field)
CWS_IS_AT(general, CWS_GENERAL);
CWS_IS_AT(flags, CWS_FLAGS);
CWS_IS_AT(host_rsp, CWS_HOST_RSP);
CWS_IS_AT(target, CWS_TARGET);
CWS_IS_AT(exit_host_flags, CWS_EXIT_HOST_FLAGS);
CWS_IS_AT(exit_rax_flags, CWS_EXIT_RAX_FLAGS);
CWS_IS_AT(site, CWS_SITE);
CWS_IS_AT(address, CWS_ADDRESS);
CWS_IS_AT(scratch, CWS_SCRATCH);
CWS_IS_AT(rip, CWS_RIP);
CWS_IS_AT(fs_base, CWS_FS_BASE);
CWS_IS_AT(gs_base, CWS_GS_BASE);
CWS_IS_AT(mxcsr, CWS_MXCSR);
CWS_IS_AT(host_mxcsr, CWS_HOST_MXCSR);
CWS_IS_AT(signal_vector, CWS_SIGNAL_VECTOR);
CWS_IS_AT(signal_rip, CWS_SIGNAL_RIP);
CWS_IS_AT(signal_flags, CWS_SIGNAL_FLAGS);
CWS_IS_AT(signal_address, CWS_SIGNAL_ADDRESS);
CWS_IS_AT(cache_base, CWS_CACHE_BASE);
CWS_IS_AT(cache_size, CWS_CACHE_SIZE);
CWS_IS_AT(t1, CWS_T1);
CWS_IS_AT(t2, CWS_T2);
CWS_IS_AT(helper, CWS_HELPER);
CWS_IS_AT(call, CWS_CALL);
CWS_IS_AT(own, CWS_OWN);
CWS_IS_AT(vector, CWS_VECTOR);
CWS_IS_AT(x87, CWS_X87);
CWS_IS_AT(x87_instruction_note, CWS_X87_INSTRUCTION_NOTE);
CWS_IS_AT(x87_operand_note, CWS_X87_OPERAND_NOTE);
CWS_IS_AT(x87_operand, CWS_X87_OPERAND);
CWS_IS_AT(x87_page, CWS_X87_PAGE);
CWS_IS_AT(page, CWS_PAGE);
_Static_assert(sizeof(struct cws_state) <= CWS_SEGMENT_BASE, "segments");
_Static_assert(CWS_SEGMENT_WRITE_END + 64 <= CWS_SYSTEM, "segments");

enum : uint64_t { CWS_NO_SIGNAL = ~0ull };
// A note of x87 pointers that are 0 since.
enum : uint32_t { CWS_X87_CLEARED = 1 };

// What lies behind that.
enum : int32_t {
  CWS_SHARED_SLOTS = 8,
  // By linear page, of what CPL 3 may execute: its linear address exclusive-or a code for the physical page (PageCode).
  CWS_CODE_TLB_ENTRIES = 4096,
  // How many PAUSEs are left until Swift is told, where there are several processors.
  CWS_PAUSES_LEFT = 3328,
  // Return cache: by mode, a number that an entry of it must have; and by where on the stack a return address is, that address, the host
  // address of the code there, and the number. A word of an entry is not used.
  CWS_RETURN_KEYS = 3200,
  CWS_RETURNS = 45056,
  CWS_RETURN_ENTRIES = 512,
  // Software TLB: by view and kind of access (read, write), pairs of a tag and the host address of a page. An address
  // exclusive-or the tag of its page's entry is the offset in the page on a hit, and more on a miss.
  CWS_TLB = CWS_RETURNS + CWS_RETURN_ENTRIES * 32,
  CWS_TLB_ENTRIES = 8192,
  CWS_TLB_VIEWS = 4,
  // Jump caches: by mode, pairs of linear RIP and host address, and as many again that have had to make way. An index is made
  // of a RIP and itself shifted.
  CWS_JUMP_CACHE = CWS_TLB + CWS_TLB_VIEWS * 2 * CWS_TLB_ENTRIES * 16,
  CWS_JUMP_CACHE_ENTRIES = 32768,
  CWS_JUMP_CACHE_SHIFT = 5,
  CWS_MODES = 16,
};

_Static_assert(CWS_SHARED + CWS_SHARED_SLOTS * 8 <= CWS_RETURN_KEYS, "return keys");
_Static_assert(CWS_RETURN_KEYS + CWS_MODES * 8 <= CWS_PAUSES_LEFT, "return keys");
_Static_assert(CWS_CODE_TLB + CWS_CODE_TLB_ENTRIES * 8 <= CWS_RETURNS, "return cache");

// Which tables of the TLB an access goes through.
enum : uint8_t { CWS_VIEW_USER, CWS_VIEW_SUPERVISOR, CWS_VIEW_OVERRIDE, CWS_VIEW_NONE };

// A mode to which the number is not known yet.
enum : uint8_t { CWS_NO_MODE = 0xff };

// How translated code has set CS and SS since Swift last looked: as SYSCALL does, or as SYSRET to 64-bit mode.
enum : uint64_t { CWS_SEGMENTS_KEPT, CWS_SEGMENTS_OF_CALL, CWS_SEGMENTS_OF_RETURN };

// The site of an instruction that is complete: the guest goes on at `rip` in the state block's mode.
enum : uint64_t { CWS_SITE_COMPLETE = 0xffffffff };

// System state that translated code and the helpers below work on, at CWS_SYSTEM.
struct cws_system {
  // RFLAGS but for the arithmetic flags: IF by itself, as 0 or 0x200, and the others.
  uint64_t interrupt_flag, flags;
  // Not 0 if the chips have something that only RFLAGS.IF may hold back.
  uint64_t event_pending;
  // What SWAPGS exchanges with the base of GS.
  uint64_t kernel_gs_base;
  // The guest's time stamp counter less the host's.
  uint64_t timestamp_offset;
  // TSC_AUX.
  uint64_t timestamp_auxiliary;
  // PKRU and XCR0, for reading.
  uint64_t pkru, extended_control;
  // The selectors of ES, CS, SS, DS, FS, GS.
  uint64_t selectors[6];
  // CR0, CR2, CR3, CR4, for reading.
  uint64_t controls[5];
  // The mode that the code in work is of, and CWS_SEGMENTS_….
  uint64_t mode, segments;
  // LSTAR, what SFMASK leaves, and the selectors by STAR: CS and SS of SYSCALL, and of SYSRET to 64-bit mode.
  uint64_t call_target, call_flags;
  uint64_t call_selectors[2], return_selectors[2];
  uint64_t gdt_base, gdt_limit;
  // IRET must be left to Swift: it ends the blocking of NMIs, or takes data segments away.
  uint64_t return_is_special;
  // A bit for each mode whose code is for any linear address.
  uint64_t relative_modes;
  // CS and SS are at CPL 0 what flat 64-bit descriptors, or a null SS, would make of them.
  uint64_t segments_are_plain;
  // By mode: the numbers of the modes that SYSCALL, SYSRET and a change of AC lead to.
  struct cws_neighbours {
    uint8_t kernel, user, other_access, reserved;
  } neighbours[CWS_MODES];
};

_Static_assert(CWS_SYSTEM + sizeof(struct cws_system) <= CWS_SHARED, "system");
_Static_assert(CWS_SHARED + 8 * CWS_SHARED_SLOTS <= CWS_POLL, "shared");
_Static_assert(CWS_CODE_TLB + 8 * CWS_CODE_TLB_ENTRIES <= CWS_TLB, "code");

// Fields of `cws_system`: offsets from %gs.
#define CWS_SYSTEM_FIELD(field) (CWS_SYSTEM + (int32_t)offsetof(struct cws_system, field))
enum : int32_t {
  CWS_INTERRUPT_FLAG = CWS_SYSTEM_FIELD(interrupt_flag),
  CWS_SYSTEM_FLAGS = CWS_SYSTEM_FIELD(flags),
  CWS_EVENT_PENDING = CWS_SYSTEM_FIELD(event_pending),
  CWS_KERNEL_GS_BASE = CWS_SYSTEM_FIELD(kernel_gs_base),
  CWS_TIMESTAMP_OFFSET = CWS_SYSTEM_FIELD(timestamp_offset),
  CWS_TIMESTAMP_AUXILIARY = CWS_SYSTEM_FIELD(timestamp_auxiliary),
  CWS_PKRU = CWS_SYSTEM_FIELD(pkru),
  CWS_SELECTORS = CWS_SYSTEM_FIELD(selectors),
  CWS_CONTROLS = CWS_SYSTEM_FIELD(controls),
};

// Instructions that translated code carries out without leaving: called through `cws_call`, with all registers of the
// guest in the state block but for the vector and x87 registers, which they do not touch. Each says whether the guest
// goes on at `target`; if not, `site` is CWS_SITE_COMPLETE, or Swift has to carry out the instruction, or what is left of it.
// The last two also have the vector and x87 registers to do with, and their linear address in `address`.
enum : uint32_t {
  CWS_HELP_SYSTEM_CALL, CWS_HELP_SYSTEM_RETURN, CWS_HELP_INTERRUPT_RETURN, CWS_HELP_SET_ACCESS, CWS_HELP_CLEAR_ACCESS,
  CWS_HELP_MOVE_STRING, CWS_HELP_STORE_STRING, CWS_HELP_POP_FLAGS, CWS_HELP_SAVE_EXTENDED, CWS_HELP_RESTORE_EXTENDED,
};
// The one that `state->helper` names: the call behind `cws_call`.
uint64_t cws_help(struct cws_state *_Nonnull state);
uint64_t cws_call_address(void);
// The guest's vector registers, while they are in the processor, to and from an area of XSAVE's: lower and upper halves.
void cws_store_vectors(void *_Nonnull lower, void *_Nonnull upper);
void cws_load_vectors(const void *_Nonnull lower, const void *_Nonnull upper);

// Runs translated code from `state->target` until it takes an exit. The thread must have been prepared.
void cws_enter(struct cws_state *_Nonnull state);

// Addresses of the exits.
uint64_t cws_exit_host_flags_address(void);
uint64_t cws_exit_rax_flags_address(void);

// Points the calling thread's %gs at the state block, gives it an alternate signal stack, and blocks all signals but the
// five that cws_install_handlers names. 0 or an errno.
int cws_prepare_thread(struct cws_state *_Nonnull state);
// Takes that back.
void cws_release_thread(void);
// Between the two, while the thread is on its own stack: whether signals are taken that were not blocked before.
void cws_admit_signals(int are_admitted);
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

// FLDENV and FRSTOR, by the size of what is loaded: 14 and 28, 94 and 108 bytes. No exception may be pending.
void cws_load_environment(const void *_Nonnull area, int size);

static inline uint64_t cws_timestamp(void) {
  uint32_t low, high;
  __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
  return (uint64_t)high << 32 | low;
}

static inline void cws_pause(void) { __builtin_ia32_pause(); }

static inline int cws_compare_exchange(uint64_t *_Nonnull place, uint64_t expected, uint64_t desired) {
  return __atomic_compare_exchange_n(place, &expected, desired, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}
static inline int cws_compare_exchange32(uint32_t *_Nonnull place, uint32_t expected, uint32_t desired) {
  return __atomic_compare_exchange_n(place, &expected, desired, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}
static inline uint8_t cws_exchange8(uint8_t *_Nonnull place, uint8_t value) {
  return __atomic_exchange_n(place, value, __ATOMIC_SEQ_CST);
}
static inline void cws_store64(uint64_t *_Nonnull place, uint64_t value) {
  __atomic_store_n(place, value, __ATOMIC_RELEASE);
}
static inline uint32_t cws_load_acquire(const uint32_t *_Nonnull place) {
  return __atomic_load_n(place, __ATOMIC_ACQUIRE);
}
static inline void cws_store_release(uint32_t *_Nonnull place, uint32_t value) {
  __atomic_store_n(place, value, __ATOMIC_RELEASE);
}
#endif
