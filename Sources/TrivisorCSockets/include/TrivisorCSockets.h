// What a guest's sockets need of the host beyond what Swift's Glibc module offers: waiting for many descriptors, and a
// process that connects in the monitor's place.
#pragma once

#include <stdint.h>

/// What a descriptor is ready for.
enum : uint32_t {
  SOCKETS_READABLE = 1,
  SOCKETS_WRITABLE = 2,
  // The other end is closed in both directions, or broken.
  SOCKETS_CLOSED = 4,
};

/// epoll(7). Gives a descriptor, or -errno.
int sockets_make_poll(void);
/// From now on changes of `descriptor` are told with `name`, until it is closed. Zero or -errno.
int sockets_watch(int poll, int descriptor, uint64_t name);
/// What has changed: names and what they are ready for, at most `limit`; does not wait. How many, or -errno.
int sockets_take(int poll, uint64_t *names, uint32_t *events, int limit);

/// Starts a process that connects to the Unix socket `path`_PORT when it is asked to, and removes `path`, if that is still
/// the socket that it is now, when its own end of `channel` is the only one left. What it may do is these two things.
/// Gives the descriptor to ask by, or -errno.
int sockets_start_broker(const char *path);
/// Asks it. Gives the connected descriptor, which does not block, or -errno.
int sockets_ask_broker(int channel, uint32_t port);
