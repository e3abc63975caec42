// A guest that is debugged, as an image of the kind flat64, and the names of places in it.
#pragma once

#include <cpuid.h>
#include <stddef.h>
#include <stdint.h>

extern const unsigned char debugged_guest[], debugged_guest_end[];

struct debugged_place {
  uint64_t offset;
  char name[56];
};

extern const struct debugged_place debugged_places[], debugged_places_end[];

static inline const unsigned char *debuggedGuestBytes(void) { return debugged_guest; }
static inline size_t debuggedGuestSize(void) { return (size_t)(debugged_guest_end - debugged_guest); }
// Whether this host's processor is QEMU's software one (CPUID 0x40000000: TCGTCGTCGTCG).
static inline int isOnSoftwareProcessor(void) {
  unsigned a, b, c, d;
  __cpuid(0x40000000, a, b, c, d);
  return b == 0x54474354;
}

static inline const struct debugged_place *debuggedPlaces(void) { return debugged_places; }
static inline size_t debuggedPlaceCount(void) { return (size_t)(debugged_places_end - debugged_places); }
