#pragma once
#include <stdint.h>

/// How often the calling thread has asked the C library for memory so far.
uint64_t allocation_count_of_this_thread(void);

// How often the calling thread has given up its processor: to wait for a lock, for instance.
uint64_t sleep_count_of_this_thread(void);
