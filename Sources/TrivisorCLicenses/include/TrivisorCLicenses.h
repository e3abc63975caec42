#ifndef TRIVISOR_LICENSES_H
#define TRIVISOR_LICENSES_H

#include <stddef.h>

// The licences of everything that a static executable carries, as text: tools/build-licenses makes it.
extern const char trivisor_licenses_start[];
extern const char trivisor_licenses_end[];

static inline const void *_Nonnull trivisor_licenses(void) { return trivisor_licenses_start; }
static inline size_t trivisor_licenses_size(void) { return (size_t)(trivisor_licenses_end - trivisor_licenses_start); }

#endif
