// Pages to give out: zero because they lie in BSS, and in the image only of guests that ask for them.
#include "frames.h"

  .section .bss.frames, "aw", @nobits
  .balign 4096
  .globl native_frame_pool
native_frame_pool:
  .fill 4096 * NATIVE_FRAME_COUNT, 1, 0
