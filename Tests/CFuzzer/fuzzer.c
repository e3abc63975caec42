#include "TrivisorCFuzzer.h"

// LLVM, compiler-rt/lib/fuzzer/FuzzerInterface.h and "Using libFuzzer as a library".
__attribute__((weak)) int LLVMFuzzerRunDriver(int *count, char ***words, cfuzzer_input input);

int cfuzzer_is_there(void) { return LLVMFuzzerRunDriver != NULL; }

int cfuzzer_run(int count, char **words, cfuzzer_input input) {
  return LLVMFuzzerRunDriver != NULL ? LLVMFuzzerRunDriver(&count, &words, input) : -1;
}
