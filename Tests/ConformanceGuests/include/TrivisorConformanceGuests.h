// The micro-guests' machine code, by name.
#pragma once

#include <stddef.h>
#include <stdint.h>

/// One guest: the bytes between the macros `guest` and `endguest` of guest.h.
struct conformance_guest {
  /// As the macro names it.
  const char *name;
  /// Its first byte; it is copied to `CONFORMANCE_LOAD_ADDRESS` and entered there.
  const uint8_t *begin;
  /// The byte behind its last.
  const uint8_t *end;
};

/// All guests, in the order of linking.
const struct conformance_guest *conformance_guests(size_t *count);

/// The twelve characters that a hypervisor under *us* shows in CPUID 0x4000_0000, terminated; empty without one.
const char *conformance_host_hypervisor(void);
