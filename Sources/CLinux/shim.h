// Linux calls that Swift's Glibc module does not offer (they need _GNU_SOURCE, are macros or are variadic).
#pragma once

#include <errno.h>
#include <linux/falloc.h>
#include <pty.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <termios.h>
#include <unistd.h>

extern int memfd_create(const char *name, unsigned int flags);
extern int fallocate(int fd, int mode, off_t offset, off_t length);

enum : unsigned int {
  CLINUX_MFD_CLOEXEC = 1,
};

/// MAP_NORESERVE | MAP_SHARED: `mmap`'s flags for guest memory that is configured without being committed.
enum : int {
  CLINUX_MAP_SHARED_NORESERVE = 0x01 | 0x4000,
};

/// Real-time signal numbers are run-time values in glibc (the first two belong to the threads library).
static inline int clinux_sigrtmin(void) { return SIGRTMIN; }

/// The processor's time stamp counter, not before what stands before it.
static inline unsigned long long clinux_timestamp(void) {
  unsigned int low, high;
  __asm__ volatile("lfence; rdtsc" : "=a"(low), "=d"(high) : : "memory");
  return (unsigned long long)high << 32 | low;
}
