// LLVM's libFuzzer, where the program was linked with it (tools/fuzz does so), and nothing where it was not.
#pragma once

#include <stddef.h>
#include <stdint.h>

typedef int (*cfuzzer_input)(const uint8_t *bytes, size_t count);

/// Whether there is a fuzzer in this program.
int cfuzzer_is_there(void);

/// Runs it with a command line of its own; most ends of it end the process.
/// Returns -1 where there is none.
int cfuzzer_run(int count, char **words, cfuzzer_input input);
