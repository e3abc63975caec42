// A worker is the same program once more: executed, not forked, since a process with threads can't be. A constructor finds the
// mark in the environment, before the program's main function, and never returns.

#define _GNU_SOURCE
#include "TrivisorCWorker.h"

#include <errno.h>
#include <link.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SOCKET = 3, LIMIT = 64, STATUS_NO_PARENT = 125 };

// Swift's.
extern int trivisor_worker_main(int socket);

int cworker_comes_from_parent(int socket) {
  struct ucred peer;
  socklen_t size = sizeof peer;
  return getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.pid == getppid();
}

__attribute__((constructor)) static void become_worker(void) {
  const char *mark = getenv("TRIVISOR_WORKER");
  if (mark == NULL || strcmp(mark, "3") != 0) return;
  unsetenv("TRIVISOR_WORKER");
  // Somebody's variable, but nobody's worker.
  if (!cworker_comes_from_parent(SOCKET)) return;
  // The thread that made this process lives as long as the run.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (!cworker_comes_from_parent(SOCKET)) _exit(STATUS_NO_PARENT);
  // What the program had open and did not close on exec is none of a worker's.
  syscall(SYS_close_range, SOCKET + 1, ~0u, 0);
  _exit(trivisor_worker_main(SOCKET));
}

static int find_own_code(struct dl_phdr_info *object, size_t size, void *result) {
  (void)size;
  const ElfW(Addr) place = (ElfW(Addr))&cworker_is_in_program;
  for (int i = 0; i < object->dlpi_phnum; i++) {
    const ElfW(Phdr) *segment = &object->dlpi_phdr[i];
    const ElfW(Addr) start = object->dlpi_addr + segment->p_vaddr;
    if (segment->p_type == PT_LOAD && place >= start && place - start < segment->p_memsz) *(int *)result = 1;
  }
  // The program's own file comes first; no other one counts.
  return 1;
}

int cworker_is_in_program(void) {
  int result = 0;
  dl_iterate_phdr(find_own_code, &result);
  return result;
}

int cworker_send_descriptors(int socket, const int *descriptors, int count) {
  if (count < 0 || count > LIMIT) return -E2BIG;
  char byte = 0;
  struct iovec piece = {&byte, 1};
  union {
    char bytes[CMSG_SPACE(LIMIT * sizeof(int))];
    struct cmsghdr header;
  } control;
  struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
  if (count > 0) {
    message.msg_control = control.bytes;
    message.msg_controllen = CMSG_SPACE((size_t)count * sizeof(int));
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN((size_t)count * sizeof(int));
    memcpy(CMSG_DATA(header), descriptors, (size_t)count * sizeof(int));
  }
  ssize_t sent;
  do sent = sendmsg(socket, &message, MSG_NOSIGNAL);
  while (sent < 0 && errno == EINTR);
  return sent == 1 ? 0 : -errno;
}

int cworker_receive_descriptors(int socket, int *descriptors, int limit) {
  char byte;
  struct iovec piece = {&byte, 1};
  union {
    char bytes[CMSG_SPACE(LIMIT * sizeof(int))];
    struct cmsghdr header;
  } control;
  struct msghdr message = {
      .msg_iov = &piece, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
  ssize_t received;
  do received = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  while (received < 0 && errno == EINTR);
  if (received < 0) return -errno;
  if (received == 0 || (message.msg_flags & MSG_CTRUNC) != 0) return -EPIPE;
  int count = 0;
  for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header != NULL; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const int *numbers = (const int *)CMSG_DATA(header);
    for (size_t i = 0; i < (header->cmsg_len - CMSG_LEN(0)) / sizeof(int) && count < limit; i++) {
      memcpy(&descriptors[count++], &numbers[i], sizeof(int));
    }
  }
  return count;
}
