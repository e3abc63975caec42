#define _GNU_SOURCE
#include "TrivisorCConfinement.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

// Newer than the headers of some hosts (Linux, include/uapi/linux/landlock.h).
#define ACCESS_FS_TRUNCATE (1ull << 14)
#define ACCESS_NET_BIND_TCP (1ull << 0)
#define ACCESS_NET_CONNECT_TCP (1ull << 1)
#define SCOPE_ABSTRACT_UNIX_SOCKET (1ull << 0)
#define SCOPE_SIGNAL (1ull << 1)

struct ruleset_attributes {
  uint64_t handled_access_fs;
  uint64_t handled_access_net;  // since version 4
  uint64_t scoped;              // since version 6
};

int confinement_no_new_privileges(void) { return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 ? 0 : -errno; }

static int lower(int resource) {
  const struct rlimit none = {0, 0};
  return setrlimit(resource, &none) == 0 ? 0 : -errno;
}

int confinement_no_core(void) { return lower(RLIMIT_CORE); }

int confinement_lower_limits(void) {
  // The scheduler's priorities, memory that is never written out, message queues: no run has any of them.
  const int resources[] = {RLIMIT_MEMLOCK, RLIMIT_MSGQUEUE, RLIMIT_NICE, RLIMIT_RTPRIO};
  int error = 0;
  for (size_t i = 0; i < sizeof resources / sizeof *resources; i++) {
    const int result = lower(resources[i]);
    if (result != 0) error = result;
  }
  return error;
}

int confinement_keep_descriptors(void) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return -errno;
  limit.rlim_max = limit.rlim_cur;
  return setrlimit(RLIMIT_NOFILE, &limit) == 0 ? 0 : -errno;
}

// MARK: Landlock

static uint64_t handled(int abi) {
  uint64_t access = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_READ_FILE |
                    LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |
                    LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |
                    LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK |
                    LANDLOCK_ACCESS_FS_MAKE_SYM;
  if (abi >= 2) access |= LANDLOCK_ACCESS_FS_REFER;
  if (abi >= 3) access |= ACCESS_FS_TRUNCATE;
  return access;
}

int confinement_make_ruleset(int *abi) {
  *abi = (int)syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
  if (*abi < 0) return -errno;
  struct ruleset_attributes attributes = {.handled_access_fs = handled(*abi)};
  size_t size = offsetof(struct ruleset_attributes, handled_access_net);
  if (*abi >= 4) {
    attributes.handled_access_net = ACCESS_NET_BIND_TCP | ACCESS_NET_CONNECT_TCP;
    size = offsetof(struct ruleset_attributes, scoped);
  }
  if (*abi >= 6) {
    // Signals to the paravirtual technique's processes stay possible: they are below the same ruleset.
    attributes.scoped = SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL;
    size = sizeof attributes;
  }
  const int ruleset = (int)syscall(SYS_landlock_create_ruleset, &attributes, size, 0);
  return ruleset >= 0 ? ruleset : -errno;
}

int confinement_allow(int ruleset, int abi, const char *path, uint32_t access) {
  const int place = open(path, O_PATH | O_CLOEXEC);
  if (place < 0) return -errno;
  struct stat status;
  const int isFolder = fstat(place, &status) == 0 && S_ISDIR(status.st_mode);
  uint64_t allowed = 0;
  if (access & CONFINEMENT_READ) allowed |= LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
  if (access & CONFINEMENT_WRITE) allowed |= LANDLOCK_ACCESS_FS_WRITE_FILE | ACCESS_FS_TRUNCATE;
  if (access & CONFINEMENT_CHANGE) allowed |= handled(abi) & ~(uint64_t)LANDLOCK_ACCESS_FS_EXECUTE;
  allowed &= handled(abi);
  if (!isFolder) {
    allowed &= LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_READ_FILE | ACCESS_FS_TRUNCATE;
  }
  const struct landlock_path_beneath_attr rule = {.allowed_access = allowed, .parent_fd = place};
  const long result = syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
  const int error = result == 0 ? 0 : -errno;
  close(place);
  return error;
}

int confinement_enforce(int ruleset) {
  const int error = syscall(SYS_landlock_restrict_self, ruleset, 0) == 0 ? 0 : -errno;
  close(ruleset);
  return error;
}

// MARK: System calls

// What every run needs: memory, threads, time, waiting, and descriptors that are open.
static const int common_calls[] = {
    SYS_read, SYS_write, SYS_readv, SYS_writev, SYS_pread64, SYS_pwrite64, SYS_preadv, SYS_pwritev, SYS_preadv2,
    SYS_pwritev2, SYS_close, SYS_lseek, SYS_fstat, SYS_newfstatat, SYS_statx, SYS_fstatfs, SYS_statfs, SYS_poll, SYS_ppoll, SYS_epoll_ctl,
    SYS_select, SYS_pselect6, SYS_fcntl, SYS_flock, SYS_fsync, SYS_fdatasync, SYS_sync_file_range, SYS_fallocate,
    SYS_ftruncate, SYS_getdents64, SYS_dup, SYS_dup3, SYS_pipe2, SYS_eventfd2, SYS_timerfd_create, SYS_timerfd_settime,
    SYS_timerfd_gettime, SYS_signalfd4, SYS_memfd_create, SYS_sendto, SYS_sendmsg, SYS_recvfrom, SYS_recvmsg, SYS_shutdown,
    SYS_getsockopt, SYS_getsockname, SYS_copy_file_range,
    SYS_munmap, SYS_mremap, SYS_madvise, SYS_brk, SYS_msync, SYS_mlock, SYS_munlock, SYS_mincore, SYS_membarrier,
    SYS_futex, SYS_set_robust_list, SYS_get_robust_list, SYS_rseq, SYS_sched_yield, SYS_sched_getaffinity,
    SYS_sched_setaffinity, SYS_getcpu, SYS_set_tid_address, SYS_exit, SYS_exit_group, SYS_restart_syscall,
    SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_rt_sigpending, SYS_rt_sigtimedwait, SYS_rt_sigsuspend,
    SYS_sigaltstack, SYS_arch_prctl,
    SYS_clock_gettime, SYS_clock_getres, SYS_clock_nanosleep, SYS_nanosleep, SYS_gettimeofday, SYS_time, SYS_getitimer,
    SYS_getpid, SYS_getppid, SYS_gettid, SYS_getuid, SYS_geteuid, SYS_getgid, SYS_getegid, SYS_getgroups, SYS_getpgrp,
    SYS_getpgid, SYS_getsid, SYS_getrusage, SYS_times, SYS_sysinfo, SYS_uname, SYS_getrandom, SYS_umask,
};

// A file server's, beside opening: on names below folders that it has open, and on /proc/self/fd.
static const int file_calls[] = {
    SYS_open, SYS_openat, SYS_openat2, SYS_access, SYS_faccessat, SYS_faccessat2, SYS_stat, SYS_lstat, SYS_readlink,
    SYS_readlinkat, SYS_mkdirat, SYS_mknodat, SYS_unlinkat, SYS_linkat, SYS_symlinkat, SYS_renameat, SYS_renameat2,
    SYS_chmod, SYS_fchmod, SYS_fchmodat, SYS_chown, SYS_lchown, SYS_fchown, SYS_fchownat, SYS_truncate, SYS_utimensat,
    SYS_getxattr, SYS_lgetxattr, SYS_fgetxattr, SYS_setxattr, SYS_lsetxattr, SYS_fsetxattr, SYS_listxattr, SYS_llistxattr,
    SYS_flistxattr, SYS_removexattr, SYS_lremovexattr, SYS_fremovexattr, SYS_name_to_handle_at,
};

// To make the paravirtual technique's processes, and what they do before their own filters leave them nothing.
static const int spawning_calls[] = {
    SYS_vfork, SYS_wait4, SYS_waitid, SYS_kill, SYS_tgkill, SYS_close_range, SYS_dup2, SYS_setsid, SYS_prctl, SYS_prlimit64,
    SYS_setrlimit, SYS_personality, SYS_seccomp, SYS_modify_ldt, SYS_clone,
};

// For the socket of a guest that has a name, or waits for another one.
static const int accepting_calls[] = {SYS_accept4, SYS_unlink, SYS_setsockopt};

// For a guest's sockets. Connecting is another process's.
static const int socket_calls[] = {SYS_accept4, SYS_epoll_create1, SYS_epoll_ctl, SYS_epoll_wait, SYS_epoll_pwait};

enum { PROGRAM_LIMIT = 512 };

struct program {
  struct sock_filter code[PROGRAM_LIMIT];
  unsigned short size;
};

static void emit(struct program *program, struct sock_filter instruction) {
  if (program->size < PROGRAM_LIMIT) program->code[program->size++] = instruction;
}

static void load(struct program *program, size_t offset) {
  emit(program, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset));
}

static void give(struct program *program, uint32_t action) {
  emit(program, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, action));
}

static void load_number(struct program *program) { load(program, offsetof(struct seccomp_data, nr)); }
static size_t low(int argument) { return offsetof(struct seccomp_data, args) + 8 * (size_t)argument; }

static void allow(struct program *program, const int *calls, size_t count) {
  for (size_t i = 0; i < count; i++) {
    emit(program, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)calls[i], 0, 1));
    give(program, SECCOMP_RET_ALLOW);
  }
}

static const uint32_t refusal = SECCOMP_RET_ERRNO | EPERM;

// `call` is allowed where the low half of `argument`, masked, is `value`; else refused.
static void allow_where(struct program *program, int call, int argument, uint32_t mask, uint32_t value) {
  emit(program, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, 5));
  load(program, low(argument));
  emit(program, (struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, mask));
  emit(program, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1));
  give(program, SECCOMP_RET_ALLOW);
  give(program, refusal);
}

int confinement_filter(uint32_t calls) {
  struct program program = {.size = 0};
  // Another architecture's numbers mean other calls. Not killed: the paravirtual technique's processes have a filter that makes a trap of
  // such a call, and a trap goes before an error.
  load(&program, offsetof(struct seccomp_data, arch));
  emit(&program, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0));
  give(&program, refusal);
  load_number(&program);
  allow(&program, common_calls, sizeof common_calls / sizeof *common_calls);
  if (calls & CONFINEMENT_OPENS) allow(&program, file_calls, sizeof file_calls / sizeof *file_calls);
  if (calls & CONFINEMENT_ACCEPTS) allow(&program, accepting_calls, sizeof accepting_calls / sizeof *accepting_calls);
  if (calls & CONFINEMENT_SOCKETS) allow(&program, socket_calls, sizeof socket_calls / sizeof *socket_calls);
  if (calls & CONFINEMENT_SPAWNS) {
    allow(&program, spawning_calls, sizeof spawning_calls / sizeof *spawning_calls);
    // Nothing is executed by a name.
    allow_where(&program, SYS_execveat, 4, AT_EMPTY_PATH, AT_EMPTY_PATH);
  } else {
    // Threads, and no processes. The newer call has its flags in memory, where no filter sees them: the C library then takes the older.
    allow_where(&program, SYS_clone, 0, CLONE_THREAD, CLONE_THREAD);
    allow_where(&program, SYS_tgkill, 0, ~0u, (uint32_t)getpid());
    emit(&program, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_prlimit64, 0, 6));
    // Limits are read, and not set.
    load(&program, low(2));
    emit(&program, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 3));
    load(&program, low(2) + 4);
    emit(&program, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1));
    give(&program, SECCOMP_RET_ALLOW);
    give(&program, refusal);
  }
  emit(&program, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 0, 1));
  give(&program, SECCOMP_RET_ERRNO | ENOSYS);
  // No typing into somebody's terminal.
  emit(&program, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 5));
  load(&program, low(1));
  emit(&program, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, TIOCSTI, 2, 0));
  emit(&program, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, TIOCLINUX, 1, 0));
  give(&program, SECCOMP_RET_ALLOW);
  give(&program, refusal);
  if (calls & CONFINEMENT_NEW_CODE) {
    const int both[] = {SYS_mmap, SYS_mprotect};
    allow(&program, both, 2);
  } else {
    allow_where(&program, SYS_mmap, 2, PROT_EXEC, 0);
    allow_where(&program, SYS_mprotect, 2, PROT_EXEC, 0);
  }
  give(&program, refusal);
  if (program.size == PROGRAM_LIMIT) return -E2BIG;
  const struct sock_fprog filter = {.len = program.size, .filter = program.code};
  const long result = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &filter);
  // A thread's number: that one has a filter of its own.
  return result == 0 ? 0 : result > 0 ? -EBUSY : -errno;
}

// MARK: What the tests try

int confinement_try_execute(void) {
  const long child = syscall(SYS_vfork);
  if (child < 0) {
    // Perhaps this process itself can become another.
    char *const nothing[] = {NULL};
    execve("/bin/true", nothing, nothing);
    return -errno;
  }
  if (child == 0) {
    char *const nothing[] = {NULL};
    execve("/bin/true", nothing, nothing);
    _exit(errno);
  }
  int status = 0;
  syscall(SYS_wait4, child, &status, 0, NULL);
  return -((status >> 8) & 0xff);
}

int confinement_try_connect(void) {
  const int socket = (int)syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
  return socket < 0 ? -errno : 0;
}

int confinement_try_trace(void) { return syscall(SYS_ptrace, PTRACE_ATTACH, getppid(), 0, 0) == 0 ? 0 : -errno; }
int confinement_try_kill(void) { return syscall(SYS_kill, getppid(), 0) == 0 ? 0 : -errno; }
int confinement_try_type(void) { return ioctl(STDIN_FILENO, TIOCSTI, "x") == 0 ? 0 : -errno; }

int confinement_try_fork(void) {
  const long child = syscall(SYS_fork);
  if (child == 0) _exit(0);
  return child < 0 ? -errno : 0;
}

int confinement_try_new_code(void) {
  return mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED ? 0 : -errno;
}

static const struct {
  const char *name;
  long number;
} needless_calls[] = {
    {"socket", SYS_socket}, {"socketpair", SYS_socketpair}, {"bind", SYS_bind}, {"listen", SYS_listen},
    {"connect", SYS_connect}, {"accept", SYS_accept}, {"accept4", SYS_accept4},
    {"process_vm_readv", SYS_process_vm_readv}, {"process_vm_writev", SYS_process_vm_writev}, {"ptrace", SYS_ptrace},
    {"pidfd_open", SYS_pidfd_open}, {"mount", SYS_mount}, {"umount2", SYS_umount2}, {"pivot_root", SYS_pivot_root},
    {"chroot", SYS_chroot}, {"init_module", SYS_init_module}, {"finit_module", SYS_finit_module},
    {"delete_module", SYS_delete_module}, {"kexec_load", SYS_kexec_load}, {"reboot", SYS_reboot},
    {"add_key", SYS_add_key}, {"request_key", SYS_request_key}, {"keyctl", SYS_keyctl},
    {"clock_settime", SYS_clock_settime}, {"settimeofday", SYS_settimeofday}, {"adjtimex", SYS_adjtimex},
    {"unshare", SYS_unshare}, {"setns", SYS_setns}, {"setuid", SYS_setuid}, {"capset", SYS_capset},
    {"bpf", SYS_bpf}, {"perf_event_open", SYS_perf_event_open}, {"userfaultfd", SYS_userfaultfd},
    {"io_uring_setup", SYS_io_uring_setup}, {"shmget", SYS_shmget}, {"mq_open", SYS_mq_open}, {"execve", SYS_execve},
    // An x32 program's number of getpid.
    {"x32", 0x40000000l | SYS_getpid},
};

int confinement_try_needless(int index, const char **name) {
  if (index < 0 || (size_t)index >= sizeof needless_calls / sizeof *needless_calls) return 1;
  *name = needless_calls[index].name;
  return syscall(needless_calls[index].number, 0l, 0l, 0l, 0l, 0l, 0l) >= 0 ? 0 : -errno;
}

static sigjmp_buf without_legacy_calls;

static void leave_legacy_call(int signal) {
  (void)signal;
  siglongjmp(without_legacy_calls, 1);
}

int confinement_try_legacy(void) {
  // A host without 32-bit calls raises #GP at the instruction.
  struct sigaction before, handler = {.sa_handler = leave_legacy_call};
  sigaction(SIGSEGV, &handler, &before);
  long result = -ENOSYS;
  if (sigsetjmp(without_legacy_calls, 1) == 0) {
    const long getpid_of_i386 = 20;
    __asm__ volatile("int $0x80" : "=a"(result) : "0"(getpid_of_i386) : "memory", "r8", "r9", "r10", "r11");
    result = (int)result;
  }
  sigaction(SIGSEGV, &before, NULL);
  return result >= 0 ? 0 : (int)result;
}

int confinement_try_limit(void) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return -errno;
  limit.rlim_max += 1;
  return setrlimit(RLIMIT_NOFILE, &limit) == 0 ? 0 : -errno;
}
