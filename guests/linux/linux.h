// What the first process of a Linux guest needs and Swift has no word for: system calls, ports, memory without a heap.
#pragma once

#include <stdint.h>

long linux_system_call(long number, long first, long second, long third, long fourth, long fifth);

extern char linux_text_buffer[0x20000];
extern const char *_Nullable linux_pointer_buffer[0x4000];

// Room for the text of the command and its environment, and for the vectors of the exec call.
static inline char *_Nonnull textBuffer(void) { return linux_text_buffer; }
static inline const char *_Nullable *_Nonnull pointerBuffer(void) { return linux_pointer_buffer; }
enum { TEXT_CAPACITY = 0x20000, POINTER_CAPACITY = 0x4000 };

static inline uint32_t readPort32(uint16_t port) {
  uint32_t value;
  __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}
static inline void writePort8(uint16_t port, uint8_t value) { __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }

// The kernel's struct termios (asm-generic/termbits.h).
struct TerminalSettings {
  uint32_t inputFlags, outputFlags, controlFlags, localFlags;
  uint8_t line, characters[19];
};

// struct ifreq, as far as the flags (linux/if.h).
struct InterfaceFlags {
  char name[16];
  int16_t flags;
  char rest[22];
};
