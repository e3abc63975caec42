#pragma once

#include <stdint.h>

// What a guest knows about its own machine, to compare with what instructions show. privileged/instructions.S knows the
// fields by their offsets, and uses what follows byte 256 of the same page as its own memory.
struct KnownState {
  uint64_t gdtBase, gdtLimit;
  uint64_t idtBase, idtLimit;
  uint64_t taskRegister;
  uint64_t machineStatus;  // CR0's low 16 bits
  uint64_t efer;
  uint64_t tscAux;
  uint64_t codeSelector, stackSelector;  // of the mode that the row runs in
  uint64_t userReturn;  // the user address to which user code returns
};
