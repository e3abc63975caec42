// What the first process of a Linux guest needs and Swift has no word for: system calls, and memory without a heap.
#pragma once

#include <stdint.h>

long linux_system_call(long number, long first, long second, long third, long fourth, long fifth);

enum {
  // Flags and sizes of the order, its words, the environment.
  ORDER_CAPACITY = 0x81000,
  // Vectors of the exec call.
  POINTER_CAPACITY = 0x4000,
  // Two frames of the channel at most, and the beginning of a third.
  RECEIVE_CAPACITY = 0x4000,
  TRANSMIT_CAPACITY = 0x4000,
  // What the host may send of the input before the command has read any of it. The kernel's line discipline and its
  // buffers before that hold more, so nothing is lost while this process has no turn.
  INPUT_CAPACITY = 0x4000,
  // Commands at a time, the first one included (ChannelFrame.sessionLimit).
  SESSION_CAPACITY = 32,
  // What is waited for: the channel, ended children, three streams of each command.
  POLL_CAPACITY = 2 + 3 * SESSION_CAPACITY,
  // A path, and what a folder holds.
  SCRATCH_CAPACITY = 0x2000,
  // Paths and sentences.
  TEXT_CAPACITY = 0x1800,
};

extern uint8_t linux_order_buffer[ORDER_CAPACITY];
extern const char *_Nullable linux_pointer_buffer[POINTER_CAPACITY];
extern uint8_t linux_receive_buffer[RECEIVE_CAPACITY];
extern uint8_t linux_transmit_buffer[TRANSMIT_CAPACITY];
extern uint8_t linux_input_buffers[SESSION_CAPACITY][INPUT_CAPACITY];
extern uint8_t linux_scratch_buffer[SCRATCH_CAPACITY];
extern uint8_t linux_text_buffers[2][TEXT_CAPACITY];

static inline uint8_t *_Nonnull orderBuffer(void) { return linux_order_buffer; }
static inline const char *_Nullable *_Nonnull pointerBuffer(void) { return linux_pointer_buffer; }
static inline uint8_t *_Nonnull receiveBuffer(void) { return linux_receive_buffer; }
static inline uint8_t *_Nonnull transmitBuffer(void) { return linux_transmit_buffer; }
static inline uint8_t *_Nonnull inputBuffer(long session) { return linux_input_buffers[session]; }
static inline uint8_t *_Nonnull scratchBuffer(void) { return linux_scratch_buffer; }
// Two, in turn: a tag and a path are needed at the same time.
static inline uint8_t *_Nonnull textBuffer(void) {
  static int turn;
  turn ^= 1;
  return linux_text_buffers[turn];
}

// The kernel's struct termios (asm-generic/termbits.h).
struct TerminalSettings {
  uint32_t inputFlags, outputFlags, controlFlags, localFlags;
  uint8_t line, characters[19];
};

// struct winsize (asm-generic/termios.h).
struct TerminalSize {
  uint16_t rows, columns, width, height;
};

// struct pollfd (asm-generic/poll.h).
struct PollDescriptor {
  int32_t descriptor;
  int16_t events, found;
};

extern struct PollDescriptor linux_poll_buffer[POLL_CAPACITY];
static inline struct PollDescriptor *_Nonnull pollBuffer(void) { return linux_poll_buffer; }

// struct ifreq, as far as the flags (linux/if.h).
struct InterfaceFlags {
  char name[16];
  int16_t flags;
  char rest[22];
};

// struct ifreq again, with a number or the beginning of a hardware address behind the name (linux/if.h).
struct InterfaceRequest {
  char name[16];
  int32_t value;
  char rest[20];
};

// struct timespec of 64-bit kernels.
struct TimeSpecification {
  int64_t seconds, nanoseconds;
};
