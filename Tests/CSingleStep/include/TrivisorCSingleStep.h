// Interrupts translated code between two instructions of the host: the processor's trap flag is set when the code is entered, and
// a handler counts.
#pragma once

#include <stdint.h>

// Called on the thread that is interrupted, between two instructions of translated code, on the stack for signals.
// - Returns: how many instructions later it is to be called again; 0: not before `css_begin`.
typedef uint32_t (*css_interruption)(void *_Nonnull context);

// Installs the handler, behind the engine's own, for the process. 0 or an errno.
int css_install(css_interruption _Nonnull interruption);

// When the calling thread enters translated code, its instructions are counted there; just before `cws_enter`.
void css_begin(void *_Nonnull context, uint32_t count);
// Behind it.
void css_end(void);

// The process runs on the processor of the host that it is on, from now on; where the host refuses, as before.
void css_stay(void);
