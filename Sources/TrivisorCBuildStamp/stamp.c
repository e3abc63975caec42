#include "TrivisorCBuildStamp.h"

// Volatile: what is in this section when the executable is linked is not what is there when it runs.
__attribute__((section(".trivisor_stamp"), used)) static const volatile char stamp[96] = {0};

const char *trivisor_build_stamp(void) { return (const char *)stamp; }
