// The table of instructions.S.
#pragma once

#include <stdint.h>

struct FeatureRow {
  const char *_Nonnull name;  // as Linux' /proc/cpuinfo has it
  uint64_t code;
  // CPUID's function and index, its result (0 EAX, 1 EBX, 2 ECX, 3 EDX) and the bit.
  uint32_t function, index, result, bit;
  uint32_t flags, reserved;
};

enum : uint32_t {
  featureMeansAnother = 1,  // without it, the instruction is another one, or a hint
  featureIsForKernels = 2,
  featureNeedsAVXState = 4,
  featureNeedsXSAVE = 8,
  featureIsPopElsewhere = 16,  // QEMU's TCG takes it for POP
};

enum : uint64_t { featureWrong = 0, featureRight = 1, featureTrapped = 0x100 };

static inline uint64_t featureRowCount(void) {
  extern const struct FeatureRow feature_rows[], feature_rows_end[];
  return (uint64_t)(feature_rows_end - feature_rows);
}

static inline struct FeatureRow featureRow(uint64_t index) {
  extern const struct FeatureRow feature_rows[];
  return feature_rows[index];
}

// Where user code returns to: a system call with the result in RAX.
static inline uint64_t featuresReturn(void) {
  extern const char features_return[];
  return (uint64_t)features_return;
}

// Calls a row's code in kernel mode, with a page for it; returns its result, or featureTrapped if a trap handler went on at
// featureTrapPoint() with the stack pointer featureStack().
uint64_t feature_attempt(uint64_t code, void *_Nonnull page);

static inline uint64_t featureTrapPoint(void) {
  extern const char feature_trap_point[];
  return (uint64_t)feature_trap_point;
}

static inline uint64_t featureStack(void) {
  extern const uint64_t feature_stack;
  return *(const volatile uint64_t *)&feature_stack;
}

// Sets what a system has to set in CR4 for SSE, and by choice for XSAVE (1), with XCR0, and for RDFSBASE (2).
void features_enable(uint32_t what, uint32_t components);

// One of CPUID's results; what the hypervisor says under Xen.
static inline uint32_t featuresIdentify(uint32_t function, uint32_t index, uint32_t result) {
  uint32_t words[4];
  __asm__ volatile(
#ifdef XEN
      ".byte 0x0f, 0x0b, 0x78, 0x65, 0x6e\n\t"
#endif
      "cpuid" : "=a"(words[0]), "=b"(words[1]), "=c"(words[2]), "=d"(words[3]) : "a"(function), "c"(index));
  return words[result & 3];
}
