// Linux calls that Swift's Glibc module does not offer (they need _GNU_SOURCE, are macros or are variadic).
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/if_tun.h>
#include <linux/openat2.h>
#include <net/if.h>
#include <pty.h>
#include <signal.h>
#include <spawn.h>
#include <sys/auxv.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/timerfd.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <termios.h>
#include <unistd.h>

extern int memfd_create(const char *name, unsigned int flags);
extern int pipe2(int ends[2], int flags);
extern int fallocate(int fd, int mode, off_t offset, off_t length);
extern int mkostemp(char *name, int flags);
extern void *memmem(const void *bytes, unsigned long count, const void *wanted, unsigned long wantedCount);

/// Flags of open(2) and its like that glibc shows to programs with _GNU_SOURCE alone.
enum : int {
  CLINUX_O_PATH = 010000000,
  CLINUX_O_DIRECT = 040000,
  CLINUX_O_NOATIME = 01000000,
  CLINUX_O_TMPFILE = 020200000,
  CLINUX_AT_EMPTY_PATH = 0x1000,
  CLINUX_AT_NO_AUTOMOUNT = 0x800,
  CLINUX_SEEK_DATA = 3,
  CLINUX_SEEK_HOLE = 4,
};

enum : unsigned int {
  CLINUX_MFD_CLOEXEC = 1,
  CLINUX_MFD_ALLOW_SEALING = 2,
};

/// Seals of memory files (fcntl(2)): it grows no more. A session of its own for a program (posix_spawnattr_setflags(3)).
enum : int {
  CLINUX_F_ADD_SEALS = 1033,
  CLINUX_F_SEAL_GROW = 4,
  CLINUX_POSIX_SPAWN_SETSID = 0x80,
};

/// MAP_NORESERVE | MAP_SHARED: `mmap`'s flags for guest memory that is configured without being committed.
enum : int {
  CLINUX_MAP_SHARED_NORESERVE = 0x01 | 0x4000,
};

/// MAP_NORESERVE | MAP_PRIVATE | MAP_ANONYMOUS: the same for memory that nothing else maps.
enum : int {
  CLINUX_MAP_ANONYMOUS_NORESERVE = 0x02 | 0x20 | 0x4000,
};

/// For `madvise`: pages of 2 MiB, where the host can; pages that are there before they are touched (Linux 5.14).
enum : int {
  CLINUX_MADV_HUGEPAGE = 14,
  CLINUX_MADV_POPULATE_READ = 22,
  CLINUX_MADV_POPULATE_WRITE = 23,
};

/// Whether CPUID says that there is a hypervisor below this process's processor (Intel SDM vol. 2A, CPUID; AMD APM
/// vol. 3, E.3.2: leaf 1, ECX bit 31).
static inline int clinux_is_virtual_machine(void) {
  unsigned int eax = 1, ebx, ecx = 0, edx;
  __asm__("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
  return (ecx >> 31 & 1) != 0;
}

/// CPUID (Intel SDM vol. 2A; AMD64 APM vol. 3, appendix E).
static inline void clinux_identify(unsigned int function, unsigned int index, unsigned int *eax, unsigned int *ebx,
                                   unsigned int *ecx, unsigned int *edx) {
  __asm__("cpuid" : "=a"(*eax), "=b"(*ebx), "=c"(*ecx), "=d"(*edx) : "a"(function), "c"(index));
}

/// XCR0, where CPUID has OSXSAVE (AMD64 APM vol. 2, 11.5.2).
static inline unsigned long long clinux_extended_control(void) {
  unsigned int low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (unsigned long long)high << 32 | low;
}

/// A loop of two instructions, `iterations` times: a yardstick for how fast others run the same.
static inline void clinux_count_down(unsigned long long iterations) {
  __asm__ volatile("1: dec %0\n\tjnz 1b" : "+r"(iterations) : : "cc");
}

/// Real-time signal numbers are run-time values in glibc (the first two belong to the threads library).
static inline int clinux_sigrtmin(void) { return SIGRTMIN; }
static inline int clinux_sigrtmax(void) { return SIGRTMAX; }

/// Whether the process was started with this signal ignored, as nohup(1) does with SIGHUP.
static inline int clinux_is_ignored(int signal) {
  struct sigaction action;
  return sigaction(signal, NULL, &action) == 0 && action.sa_handler == SIG_IGN;
}

/// The signal that calls a processor's thread out of the host's kernel.
static inline int clinux_processor_signal(void) { return SIGRTMIN + 3; }

/// The processor's time stamp counter, not before what stands before it.
static inline unsigned long long clinux_timestamp(void) {
  unsigned int low, high;
  __asm__ volatile("lfence; rdtsc" : "=a"(low), "=d"(high) : : "memory");
  return (unsigned long long)high << 32 | low;
}

/// The process's environment as the exec family takes it.
static inline char **clinux_environment(void) {
  extern char **environ;
  return environ;
}

/// Has the kernel send SIGKILL to this process when the thread that made it ends (prctl(2), PR_SET_PDEATHSIG).
static inline int clinux_die_with_parent(void) { return prctl(PR_SET_PDEATHSIG, SIGKILL); }

/// A path to this program's executable: what runs now, whatever lies at its path by now; without /proc, the path by
/// which it was started (getauxval(3), AT_EXECFN).
static inline const char *clinux_own_executable(void) {
  static const char link[] = "/proc/self/exe";
  const char *path = (const char *)getauxval(AT_EXECFN);
  return path == NULL || access(link, X_OK) == 0 ? link : path;
}

/// What a status of wait(2) says; macros that Swift does not import.
static inline int clinux_exited(int status) { return WIFEXITED(status); }
static inline int clinux_exit_status(int status) { return WEXITSTATUS(status); }
static inline int clinux_ending_signal(int status) { return WTERMSIG(status); }

/// Finds a file as a process whose root is the folder would find it (openat2(2), RESOLVE_IN_ROOT). The descriptor is good
/// for nothing but the knowledge that there is one.
static inline int clinux_open_in_root(int folder, const char *path) {
  struct open_how how = {.flags = 010000000 | 02000000, .resolve = RESOLVE_IN_ROOT};
  return (int)syscall(SYS_openat2, folder, path, &how, sizeof how);
}

/// The same, for reading.
static inline int clinux_read_in_root(int folder, const char *path) {
  struct open_how how = {.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, .resolve = RESOLVE_IN_ROOT};
  return (int)syscall(SYS_openat2, folder, path, &how, sizeof how);
}

/// Opens what a name in a folder stands for (openat2(2)): nothing above the folder, and nothing behind a symbolic link. With
/// O_NOFOLLOW and O_PATH a link itself.
static inline int clinux_open_beneath(int folder, const char *name, int flags, unsigned int mode) {
  struct open_how how = {
      .flags = (unsigned int)flags,
      .mode = mode,
      .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
  };
  return (int)syscall(SYS_openat2, folder, name, &how, sizeof how);
}

/// Entries of a folder as the kernel gives them (getdents64(2)).
static inline long clinux_get_entries(int folder, void *buffer, unsigned long count) {
  return syscall(SYS_getdents64, folder, buffer, count);
}

/// renameat2(2), which older C libraries lack.
static inline int clinux_rename(int from, const char *name, int to, const char *new_name, unsigned int flags) {
  return (int)syscall(SYS_renameat2, from, name, to, new_name, flags);
}

/// The type of the file system that a descriptor is on (statfs(2)), or -1.
static inline long clinux_file_system_type(int fd) {
  struct statfs status;
  return fstatfs(fd, &status) == 0 ? (long)(status.f_type & 0xffffffff) : -1;
}

/// Who is at the other end of a Unix socket (unix(7), SO_PEERCRED; struct ucred).
struct CLinuxPeer {
  int process;
  unsigned int user, group;
};

static inline int clinux_peer(int fd, struct CLinuxPeer *peer) {
  socklen_t size = sizeof *peer;
  return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, peer, &size);
}

extern int accept4(int fd, struct sockaddr *address, socklen_t *size, int flags);

/// A packet interface of the host's that exists (Linux: Documentation/networking/tuntap.rst), with a header of `header_size`
/// bytes in front of each frame; a descriptor, or the error's number negated. With `several`, of one of its queues: EINVAL if the
/// interface was made for one only.
static inline int clinux_open_tap(const char *name, int header_size, int several) {
  const int descriptor = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) return -errno;
  struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (several ? IFF_MULTI_QUEUE : 0)};
  for (int i = 0; i < IFNAMSIZ - 1 && name[i] != 0; i++) request.ifr_name[i] = name[i];
  int result = ioctl(descriptor, TUNSETIFF, &request);
  if (result != 0 && errno == EINVAL && !several) {
    // One that was made for several queues is asked for so.
    request.ifr_flags |= IFF_MULTI_QUEUE;
    result = ioctl(descriptor, TUNSETIFF, &request);
  }
  if (result == 0) result = ioctl(descriptor, TUNSETVNETHDRSZ, &header_size);
  if (result == 0) return descriptor;
  const int error = -errno;
  close(descriptor);
  return error;
}

/// Lets a queue of a packet interface take part, or keeps frames from it; 0, or the error's number negated.
static inline int clinux_set_tap_queue(int descriptor, int takes_part) {
  struct ifreq request = {.ifr_flags = takes_part ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE};
  return ioctl(descriptor, TUNSETQUEUE, &request) == 0 ? 0 : -errno;
}

/// What a packet interface may leave to its reader (TUN_F_CSUM and so on); 0, or the error's number negated.
static inline int clinux_set_tap_offloads(int descriptor, unsigned int offloads) {
  return ioctl(descriptor, TUNSETOFFLOAD, (unsigned long)offloads) == 0 ? 0 : -errno;
}

/// The longest packet that an interface carries; or the error's number negated.
static inline int clinux_interface_mtu(const char *name) {
  const int any = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (any < 0) return -errno;
  struct ifreq request = {.ifr_mtu = 0};
  for (int i = 0; i < IFNAMSIZ - 1 && name[i] != 0; i++) request.ifr_name[i] = name[i];
  const int result = ioctl(any, SIOCGIFMTU, &request) == 0 ? request.ifr_mtu : -errno;
  close(any);
  return result;
}
