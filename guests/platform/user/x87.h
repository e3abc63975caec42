// The x87 for Swift, which has no 80-bit numbers on this target.
#pragma once

#include <stdint.h>

struct ExtendedSum {
  uint64_t significand;
  uint16_t exponentAndSign;
  uint64_t narrowed;  // as a double's bits
};

// sqrt((1 + x + x²/2! + … + x⁵⁹/59!)² + 1), every intermediate result in extended precision; and e to the x.
static inline struct ExtendedSum extendedSum(uint64_t numerator, uint64_t denominator) {
  long double x = (long double)numerator / (long double)denominator, sum = 0, term = 1;
  for (int n = 1; n < 60; n++) {
    sum += term;
    term = term * x / n;
  }
  double narrowed = (double)sum;
  long double root = sum * sum + 1;
  __asm__("fsqrt" : "+t"(root));
  struct { uint64_t significand; uint16_t exponentAndSign; } parts;
  __builtin_memcpy(&parts, &root, 10);
  struct ExtendedSum result = {parts.significand, parts.exponentAndSign, 0};
  __builtin_memcpy(&result.narrowed, &narrowed, 8);
  return result;
}
