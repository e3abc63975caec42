#include "TrivisorConformanceGuests.h"

#include <cpuid.h>
#include <string.h>

// The linker makes these for a section whose name is a C identifier.
extern const struct conformance_guest __start_conformance_guest_table[];
extern const struct conformance_guest __stop_conformance_guest_table[];

const struct conformance_guest *conformance_guests(size_t *count) {
  *count = (size_t)(__stop_conformance_guest_table - __start_conformance_guest_table);
  return __start_conformance_guest_table;
}

const char *conformance_host_hypervisor(void) {
  static _Thread_local char signature[13];
  unsigned int eax, ebx, ecx, edx;
  memset(signature, 0, sizeof signature);
  if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx >> 31)) return signature;
  __cpuid(0x40000000, eax, ebx, ecx, edx);
  memcpy(signature, &ebx, 4);
  memcpy(signature + 4, &ecx, 4);
  memcpy(signature + 8, &edx, 4);
  return signature;
}
