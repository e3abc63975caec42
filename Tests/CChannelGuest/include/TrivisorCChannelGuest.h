// A guest that speaks the command channel's protocol, as an image of the kind flat64.
#pragma once

#include <stddef.h>

extern const unsigned char channel_guest[], channel_guest_end[];

static inline const unsigned char *channelGuestBytes(void) { return channel_guest; }
static inline size_t channelGuestSize(void) { return (size_t)(channel_guest_end - channel_guest); }
