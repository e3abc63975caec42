// What a shell or a CI job may hand to a program, put right before anything is opened, allocated or spawned.
//
// - A descriptor 0 to 2 that is closed would be the number of the first file that is opened: guest memory, an image, a
//   result. What is printed would then be written *there*. So each gets a place holder: reading it gives the end of
//   file, writing it the error EBADF, as a closed descriptor does.
// - An ignored SIGCHLD has the kernel reap processes before their status is read. A blocked SIGSEGV, SIGBUS, SIGFPE,
//   SIGILL, SIGTRAP or SIGSYS kills a process that has a handler for it.
// - SIGXFSZ would kill without a word whoever passes the limit of file sizes (ulimit -f), which holds for memory files,
//   too; ignored, the call fails with EFBIG instead, and that can be told.
// - Swift's runtime, when it is part of a static executable, looks for itself in /proc/self/exe while it is initialized,
//   and aborts where there is no /proc. It looks for nothing when SWIFT_BACKTRACE names its helper. The command line is
//   kept here because Swift reads it from /proc/self/cmdline.

#define _GNU_SOURCE
#include "TrivisorCStart.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { EXIT_HOST_FAILED = 125 };

static void fill_standard_descriptors(void) {
  for (int descriptor = STDIN_FILENO; descriptor <= STDERR_FILENO; descriptor++) {
    if (fcntl(descriptor, F_GETFD) >= 0 || errno != EBADF) continue;
    // The lowest free number is the one that is missing. Not O_CLOEXEC: programs that this one starts need it as well.
    int filler = open("/dev/null", O_RDONLY | O_NOCTTY);
    // Without /dev/null, something that can neither be read nor written.
    if (filler < 0) filler = open("/", O_PATH);
    if (filler != descriptor) {
      static const char message[] = "standard input, output or error is closed, and the host gives nothing in its place\n";
      (void)!write(STDERR_FILENO, message, sizeof message - 1);
      _exit(EXIT_HOST_FAILED);
    }
  }
}

static void settle_signals(void) {
  signal(SIGCHLD, SIG_DFL);
  signal(SIGXFSZ, SIG_IGN);
  sigset_t synchronous;
  sigemptyset(&synchronous);
  const int numbers[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT};
  for (unsigned i = 0; i < sizeof numbers / sizeof numbers[0]; i++) sigaddset(&synchronous, numbers[i]);
  sigprocmask(SIG_UNBLOCK, &synchronous, NULL);
}

static char **arguments;

static void prepare(int argc, char **argv, char **environment) {
  (void)argc;
  (void)environment;
  arguments = argv;
  fill_standard_descriptors();
  settle_signals();
}

/// Before the constructors of every library, of which one may open a file.
__attribute__((section(".preinit_array"), used)) static void (*const first)(int, char **, char **) = prepare;

/// Before the constructors of a statically linked Swift runtime, but behind those of the C library, which owns the
/// environment.
__attribute__((constructor(101))) static void do_without_proc(void) {
  char path[2];
  if (readlink("/proc/self/exe", path, sizeof path) >= 0) return;
  const char *wishes = getenv("SWIFT_BACKTRACE");
  static const char helper[] = "enable=no,swift-backtrace=/nonexistent";
  if (wishes != NULL && strstr(wishes, "swift-backtrace=") != NULL) return;
  if (wishes == NULL || *wishes == 0) {
    setenv("SWIFT_BACKTRACE", helper, 1);
    return;
  }
  const size_t size = strlen(wishes) + 1 + sizeof helper;
  char *both = malloc(size);
  if (both == NULL) return;
  snprintf(both, size, "%s,%s", wishes, helper);
  setenv("SWIFT_BACKTRACE", both, 1);
  free(both);
}

char **cstart_arguments(void) { return arguments; }

int cstart_close_output(void) {
  errno = 0;
  const int failed_before = ferror(stdout);
  if (fclose(stdout) != 0) return errno != 0 ? errno : EIO;
  return failed_before ? EIO : 0;
}
