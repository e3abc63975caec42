// What must be done before anything of a program runs: start.c does it by being linked in.
#pragma once

/// The command line as main gets it: ends with a null pointer.
char **cstart_arguments(void);

/// Writes out what stdio still holds for standard output, and closes it.
///
/// \returns 0, or errno of the first write that failed since the program began.
int cstart_close_output(void);
