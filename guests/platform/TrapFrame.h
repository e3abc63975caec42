// What a processor was doing when it trapped. The order is the one in which it lies in memory, lowest address first:
// the trap stubs push the general registers and the vector, the processor pushes the rest
// (AMD64 APM vol. 2, 8.9.3 "Interrupt Stack Frame"; Xen PV's frame differs and is converted).
#pragma once

#include <stdint.h>

struct TrapFrame {
  uint64_t r15, r14, r13, r12, r11, r10, r9, r8;
  uint64_t rbp, rdi, rsi, rdx, rcx, rbx, rax;
  uint64_t vector;  // 0 to 255, or trapVectorSystemCall
  uint64_t errorCode;
  uint64_t rip, cs, rflags, rsp, ss;
};

enum : uint64_t {
  trapVectorDivideError = 0,
  trapVectorDebug = 1,
  trapVectorBreakpoint = 3,
  trapVectorOverflow = 4,
  trapVectorInvalidOpcode = 6,
  trapVectorDoubleFault = 8,
  trapVectorGeneralProtection = 13,
  trapVectorPageFault = 14,
  trapVectorTimer = 0x20,       // where the platform delivers its timer
  trapVectorSystemCall = 0x100  // not a vector of the processor's: SYSCALL, or what stands for it
};

// What the platform's own assembly knows by number.
_Static_assert(sizeof(struct TrapFrame) == 22 * 8, "the trap stubs push 22 quadwords");
_Static_assert(sizeof(struct TrapFrame) % 16 == 0, "a stack that ends with a frame stays aligned");

// UD2, which is invalid for ever.
static inline void executeInvalidInstruction(void) { __asm__ volatile("ud2"); }
