// XSAVE, XSAVEOPT and XRSTOR of the standard format (AMD64 APM vol. 2, 11.5), in 64-bit mode, of vectors with or without x87
// state: what a kernel does at a switch of processes, and the dynamic linker before and behind each first call of a function.
//
// They save what `ExtendedStateInstruction` saves, and leave to it what is unusual: an area that is not in one piece, x87 exceptions
// that are pending, x87 pointers that are not 0, and everything that faults.
#include "helpers.h"

// XCR0, and the same bits of XSTATE_BV.
enum : uint64_t { X87 = 1, SSE = 2, AVX = 4, PROTECTION_KEYS = 1 << 9, SUPPORTED = X87 | SSE | AVX | PROTECTION_KEYS };
// Places in the area; the x87 pointers are from POINTERS to CONTROL.
enum { POINTERS = 6, CONTROL = 24, CONTROL_MASK = 28, HEADER = 512, UPPER_HALVES = 576, KEYS = 832, VECTORS = 160, REGISTERS = 32 };
// Sizes: of FXSAVE's part that is x87's, and of an area without and with PKRU.
enum { X87_SIZE = 160, SIZE = 832, SIZE_WITH_KEYS = 840 };
enum : uint32_t { DEFINED_CONTROL = 0xffff };
// FSW.ES.
enum : uint16_t { ERROR_SUMMARY = 1 << 7, INITIAL_X87_CONTROL = 0x37f };

static const uint8_t zeros[256];

// What is asked for; 0 if it is nothing that is done here.
GENERAL_ONLY static uint64_t requested(struct cws_state *state) {
  uint64_t mask = (state->general[RDX] << 32) | (uint32_t)state->general[RAX];
  mask &= system_of(state)->extended_control;
  return (mask & ~SUPPORTED) == 0 && (mask & (SSE | AVX)) == (SSE | AVX) ? mask : 0;
}

GENERAL_ONLY static uint8_t *area_of(struct cws_state *state, uint64_t components, unsigned is_write) {
  uint64_t size = components & PROTECTION_KEYS ? SIZE_WITH_KEYS : SIZE, room;
  if (state->address % 64 != 0) return NULL;
  char *area = find(state, state->address, 64, state->helper >> 24 & 3, is_write, &room);
  if (!area || room >= size) return (uint8_t *)area;
  // On two pages, which are often neighbours here, too.
  char *behind = find(state, state->address + room, 64, state->helper >> 24 & 3, is_write, &(uint64_t){0});
  return behind == area + room ? (uint8_t *)area : NULL;
}

GENERAL_ONLY static uint64_t load(const uint8_t *place) { return *(const volatile uint64_t *)place; }
GENERAL_ONLY static uint32_t load32(const uint8_t *place) { return *(const volatile uint32_t *)place; }

GENERAL_ONLY static void copy(uint8_t *to, const uint8_t *from, uint64_t count) {
  __asm__ volatile("rep movsb" : "+c"(count), "+D"(to), "+S"(from) : : "memory");
}

GENERAL_ONLY static void fill(uint8_t *to, uint64_t count) {
  __asm__ volatile("rep stosb" : "+c"(count), "+D"(to) : "a"(0) : "memory");
}

GENERAL_ONLY uint64_t cws_save_extended(struct cws_state *state) {
  uint64_t components = requested(state);
  if (!components) return 0;
  uint8_t *area = area_of(state, components, 1);
  if (!area) return 0;
  if (components & X87) {
    uint16_t status;
    __asm__ volatile("fnstsw %0" : "=a"(status));
    if (status & ERROR_SUMMARY) return 0;
    __asm__ volatile("fxsave64 %0" : "=m"(state->x87));
    copy(area, state->x87, POINTERS);
    // The pointers count while an exception is pending only.
    fill(area + POINTERS, CONTROL - POINTERS);
    copy(area + REGISTERS, state->x87 + REGISTERS, X87_SIZE - REGISTERS);
  }
  __asm__ volatile("stmxcsr %0" : "=m"(*(uint32_t *)(area + CONTROL)));
  *(uint32_t *)(area + CONTROL_MASK) = DEFINED_CONTROL;
  cws_store_vectors(area + VECTORS, area + UPPER_HALVES);
  if (components & PROTECTION_KEYS) *(uint64_t *)(area + KEYS) = system_of(state)->pkru;
  *(uint64_t *)(area + HEADER) |= components;
  return 1;
}

// The x87 part, if it has nothing that is left to Swift.
GENERAL_ONLY static int load_x87(struct cws_state *state, const uint8_t *source) {
  __asm__ volatile("fxsave64 %0" : "=m"(state->x87));
  if (source) {
    copy(state->x87, source, CONTROL);
    copy(state->x87 + REGISTERS, source + REGISTERS, X87_SIZE - REGISTERS);
    uint64_t *words = (uint64_t *)state->x87;
    if (*(uint16_t *)(state->x87 + 2) & ERROR_SUMMARY || words[0] >> 48 || words[1] || words[2]) return 0;
  } else {
    fill(state->x87, CONTROL);
    fill(state->x87 + REGISTERS, X87_SIZE - REGISTERS);
    *(uint16_t *)state->x87 = INITIAL_X87_CONTROL;
  }
  __asm__ volatile("fxrstor64 %0" : : "m"(state->x87));
  state->x87_instruction_note = state->x87_operand_note = CWS_X87_CLEARED;
  return 1;
}

GENERAL_ONLY uint64_t cws_restore_extended(struct cws_state *state) {
  struct cws_system *system = system_of(state);
  uint64_t components = requested(state);
  if (!components) return 0;
  const uint8_t *area = area_of(state, components, 0);
  if (!area) return 0;
  uint64_t present = load(area + HEADER);
  uint32_t control = load32(area + CONTROL);
  if (present & ~system->extended_control || load(area + HEADER + 8) || load(area + HEADER + 16)) return 0;
  if (control & ~DEFINED_CONTROL) return 0;
  if (components & PROTECTION_KEYS) {
    // What keys forbid from now on must go from the TLB.
    uint32_t keys = present & PROTECTION_KEYS ? load32(area + KEYS) : 0;
    if (keys != system->pkru) return 0;
  }
  if (components & X87 && !load_x87(state, present & X87 ? area : NULL)) return 0;
  __asm__ volatile("ldmxcsr %0" : : "m"(control));
  cws_load_vectors(present & SSE ? area + VECTORS : zeros, present & AVX ? area + UPPER_HALVES : zeros);
  return 1;
}
