#define _GNU_SOURCE
#include "TrivisorCSockets.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

// MARK: Waiting

int sockets_make_poll(void) {
  const int poll = epoll_create1(EPOLL_CLOEXEC);
  return poll >= 0 ? poll : -errno;
}

int sockets_watch(int poll, int descriptor, uint64_t name) {
  struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.u64 = name};
  return epoll_ctl(poll, EPOLL_CTL_ADD, descriptor, &event) == 0 ? 0 : -errno;
}

int sockets_take(int poll, uint64_t *names, uint32_t *events, int limit) {
  struct epoll_event ready[64];
  if (limit > 64) limit = 64;
  const int count = epoll_wait(poll, ready, limit, 0);
  if (count < 0) return -errno;
  for (int i = 0; i < count; i++) {
    names[i] = ready[i].data.u64;
    events[i] = 0;
    if (ready[i].events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) events[i] |= SOCKETS_READABLE;
    if (ready[i].events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) events[i] |= SOCKETS_WRITABLE;
    if (ready[i].events & (EPOLLHUP | EPOLLERR)) events[i] |= SOCKETS_CLOSED;
  }
  return count;
}

// MARK: The broker
//
// A monitor that could connect by itself could, once its guest has taken it over, connect to any socket of its user's. No
// filter sees which one a call means. So this process does it, which takes nothing but a number. It is forked, not executed:
// only calls that are safe after a fork in a process of several threads.

static int connect_to(const char *path, uint32_t port) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  char digits[11];
  int count = 0;
  do {
    digits[count++] = (char)('0' + port % 10);
    port /= 10;
  } while (port != 0);
  const size_t length = strlen(path);
  if (length + 1 + (size_t)count >= sizeof address.sun_path) return -ENAMETOOLONG;
  memcpy(address.sun_path, path, length);
  address.sun_path[length] = '_';
  for (int i = 0; i < count; i++) address.sun_path[length + 1 + (size_t)i] = digits[count - 1 - i];
  const int made = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (made < 0) return -errno;
  // One whose listener has no room is refused, not waited for.
  if (connect(made, (struct sockaddr *)&address, sizeof address) == 0) return made;
  const int error = errno;
  close(made);
  return -error;
}

static void answer(int channel, int connected) {
  int32_t result = connected < 0 ? connected : 0;
  struct iovec contents = {.iov_base = &result, .iov_len = sizeof result};
  union {
    struct cmsghdr head;
    char room[CMSG_SPACE(sizeof(int))];
  } control;
  memset(&control, 0, sizeof control);
  struct msghdr message = {.msg_iov = &contents, .msg_iovlen = 1};
  if (connected >= 0) {
    message.msg_control = control.room;
    message.msg_controllen = sizeof control.room;
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(head), &connected, sizeof connected);
  }
  while (sendmsg(channel, &message, MSG_NOSIGNAL) < 0 && errno == EINTR) {}
}

static void confine(void) {
  static const int calls[] = {SYS_recvfrom, SYS_sendmsg, SYS_socket, SYS_connect, SYS_close, SYS_newfstatat,
                              SYS_lstat, SYS_unlink, SYS_unlinkat, SYS_exit_group, SYS_rt_sigreturn, SYS_restart_syscall};
  enum { COUNT = sizeof calls / sizeof *calls };
  struct sock_filter code[5 + 2 * COUNT];
  unsigned short size = 0;
  code[size++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
  code[size++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
  code[size++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
  code[size++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
  for (int i = 0; i < COUNT; i++) {
    code[size++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)calls[i], 0, 1);
    code[size++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  }
  code[size++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
  const struct sock_fprog filter = {.len = size, .filter = code};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0) syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter);
}

static void serve(int channel, const char *path) {
  struct stat own;
  const int is_known = lstat(path, &own) == 0;
  // What ends the monitor, a terminal's interrupt say, ends this by the channel, behind it.
  setsid();
  for (int number = 1; number < NSIG; number++) {
    if (number != SIGKILL && number != SIGSTOP) signal(number, SIG_IGN);
  }
  if (channel != 0) {
    if (dup2(channel, 0) < 0) _exit(1);
  }
  if (syscall(SYS_close_range, 1, ~0u, 0) != 0) {
    for (int other = 1; other < 4096; other++) close(other);
  }
  prctl(PR_SET_NAME, "trivisor-vsock");
  confine();
  while (1) {
    uint32_t port;
    const ssize_t count = recv(0, &port, sizeof port, 0);
    if (count < 0 && errno == EINTR) continue;
    if (count != sizeof port) break;
    const int connected = connect_to(path, port);
    answer(0, connected);
    if (connected >= 0) close(connected);
  }
  struct stat now;
  if (is_known && lstat(path, &now) == 0 && now.st_dev == own.st_dev && now.st_ino == own.st_ino) unlink(path);
  _exit(0);
}

int sockets_start_broker(const char *path) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return -errno;
  // Twice: the second one's parent is nobody who would have to wait for it.
  const pid_t child = fork();
  if (child == 0) {
    const pid_t second = fork();
    if (second == 0) serve(ends[1], path);
    _exit(second < 0 ? 1 : 0);
  }
  const int error = child < 0 ? errno : 0;
  close(ends[1]);
  int status = 0;
  if (child > 0) {
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {}
  }
  if (child < 0 || status != 0) {
    close(ends[0]);
    return child < 0 ? -error : -EAGAIN;
  }
  return ends[0];
}

int sockets_ask_broker(int channel, uint32_t port) {
  while (send(channel, &port, sizeof port, MSG_NOSIGNAL) < 0) {
    if (errno != EINTR) return -errno;
  }
  int32_t result = 0;
  struct iovec contents = {.iov_base = &result, .iov_len = sizeof result};
  union {
    struct cmsghdr head;
    char room[CMSG_SPACE(sizeof(int))];
  } control;
  struct msghdr message = {
      .msg_iov = &contents, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof control.room};
  ssize_t count;
  while ((count = recvmsg(channel, &message, MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR) {}
  if (count < 0) return -errno;
  if (count != sizeof result) return -EPIPE;
  if (result < 0) return result;
  const struct cmsghdr *head = CMSG_FIRSTHDR(&message);
  // None although there was one: this process has no room for more descriptors.
  if (head == NULL || head->cmsg_type != SCM_RIGHTS || head->cmsg_len != CMSG_LEN(sizeof(int))) return -EMFILE;
  int connected;
  memcpy(&connected, CMSG_DATA(head), sizeof connected);
  return connected;
}
