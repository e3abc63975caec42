// The text of Chart.js that library.S embeds.
#pragma once

#include <stddef.h>

static inline const void *_Nonnull chart_library(void) {
  extern const char chart_library_start[];
  return chart_library_start;
}

static inline size_t chart_library_size(void) {
  extern const char chart_library_start[], chart_library_end[];
  return (size_t)(chart_library_end - chart_library_start);
}
