// Linux calls that Swift's Glibc module does not offer (they need _GNU_SOURCE, are macros or are variadic).
#pragma once

#include <errno.h>
#include <linux/falloc.h>
#include <pty.h>
#include <signal.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

extern int memfd_create(const char *name, unsigned int flags);
extern int pipe2(int ends[2], int flags);
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

/// The process's environment as the exec family takes it.
static inline char **clinux_environment(void) {
  extern char **environ;
  return environ;
}

/// Has the kernel send SIGKILL to this process when the thread that made it ends (prctl(2), PR_SET_PDEATHSIG).
static inline int clinux_die_with_parent(void) { return prctl(PR_SET_PDEATHSIG, SIGKILL); }

/// What a status of wait(2) says; macros that Swift does not import.
static inline int clinux_exited(int status) { return WIFEXITED(status); }
static inline int clinux_exit_status(int status) { return WEXITSTATUS(status); }
static inline int clinux_ending_signal(int status) { return WTERMSIG(status); }
