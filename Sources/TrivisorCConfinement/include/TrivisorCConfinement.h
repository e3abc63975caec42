#ifndef TRIVISOR_CONFINEMENT_H
#define TRIVISOR_CONFINEMENT_H

#include <stdint.h>

// What a process gives up before it runs a guest; docs/security.md says which of it protects from what.

// What of a folder or a file stays usable.
enum confinement_access {
  CONFINEMENT_READ = 1,
  CONFINEMENT_WRITE = 2,   // of files that are there
  CONFINEMENT_CHANGE = 4,  // makes, removes and renames, too
};

// Which system calls stay allowed beyond those that every run needs.
enum confinement_calls {
  // Files are opened by name, where Landlock, or the folders that are shared, keep that within bounds.
  CONFINEMENT_OPENS = 1,
  // Processes of the paravirtual technique are made: they execute an image in memory by its descriptor.
  CONFINEMENT_SPAWNS = 2,
  // Memory becomes executable: where code is translated, or a guest runs natively.
  CONFINEMENT_NEW_CODE = 4,
  // A socket that listens takes further commands, or another guest, and its name is removed at the end.
  CONFINEMENT_ACCEPTS = 8,
  // A socket that listens gives the other ends of a guest's; many descriptors are waited for at a time.
  CONFINEMENT_SOCKETS = 16,
};

// No program that is executed from here on gets privileges that this one has not. All of these: 0, or the error's number negated.
int confinement_no_new_privileges(void);

// No core file, which would hold the guest's memory.
int confinement_no_core(void);

// No locked memory, message queues and priorities above the usual.
int confinement_lower_limits(void);

// No more open descriptors than the limit is now; whoever needs more has raised it.
int confinement_keep_descriptors(void);

// A Landlock ruleset that allows nothing yet; a descriptor, or -ENOSYS or -EOPNOTSUPP where the kernel has none. `abi` gets its version.
int confinement_make_ruleset(int *_Nonnull abi);

// Lets `path` stay usable, with all that is below it.
int confinement_allow(int ruleset, int abi, const char *_Nonnull path, uint32_t access);

// Puts this thread, and those that it makes from now on, below the ruleset. Needs confinement_no_new_privileges().
int confinement_enforce(int ruleset);

// Refuses all system calls that a run does not need, in all threads, with EPERM. Needs confinement_no_new_privileges().
int confinement_filter(uint32_t calls);

// What a guest that has taken the monitor over might try: each as a system call; 0 if it was done, else the error's number negated. For
// the tests, which plant a bug that calls it.
int confinement_try_execute(void);
int confinement_try_connect(void);
int confinement_try_trace(void);
int confinement_try_kill(void);
int confinement_try_type(void);
int confinement_try_fork(void);
int confinement_try_new_code(void);
int confinement_try_limit(void);
// By the interrupt for 32-bit programs, for which the numbers mean other calls.
int confinement_try_legacy(void);
// Calls that no run needs, without arguments that would do anything. Index 0 and up; 1 behind the last one.
int confinement_try_needless(int index, const char *_Nullable *_Nonnull name);

#endif
