#pragma once
#include <stdint.h>

/// How often the calling thread has asked the C library for memory so far.
uint64_t allocation_count_of_this_thread(void);
