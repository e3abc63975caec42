// The images that images.S embeds, one function each: embedded_guest_hello() and so on.
#pragma once

#include <stddef.h>

struct EmbeddedImage {
  const void *_Nonnull start;
  size_t count;
};

#define EMBEDDED_GUEST(name)                                              \
  static inline struct EmbeddedImage embedded_guest_##name(void) {        \
    extern const char embedded_guest_##name##_start[];                    \
    extern const char embedded_guest_##name##_end[];                      \
    return (struct EmbeddedImage){                                        \
        embedded_guest_##name##_start,                                    \
        (size_t)(embedded_guest_##name##_end - embedded_guest_##name##_start)}; \
  }

EMBEDDED_GUEST(hello)
EMBEDDED_GUEST(hello_real)
EMBEDDED_GUEST(hello_protected)
EMBEDDED_GUEST(privileged)
EMBEDDED_GUEST(features)
EMBEDDED_GUEST(compute)
EMBEDDED_GUEST(ring3)
EMBEDDED_GUEST(smp)
EMBEDDED_GUEST(nanobench)
EMBEDDED_GUEST(crash)
EMBEDDED_GUEST(hello_xen)
EMBEDDED_GUEST(attack_xen)
EMBEDDED_GUEST(abi_xen)
EMBEDDED_GUEST(user32_xen)
EMBEDDED_GUEST(consoles_xen)
EMBEDDED_GUEST(cost_xen)
EMBEDDED_GUEST(linux_init)
EMBEDDED_GUEST(privileged_xen)
EMBEDDED_GUEST(features_xen)
EMBEDDED_GUEST(compute_xen)
EMBEDDED_GUEST(ring3_xen)
EMBEDDED_GUEST(smp_xen)
EMBEDDED_GUEST(nanobench_xen)
EMBEDDED_GUEST(crash_xen)

#undef EMBEDDED_GUEST
