#define _GNU_SOURCE
#include <elf.h>
#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "include/TrivisorCStub.h"

extern const char cstub_code_start[], cstub_code_end[], cstub_handler[], cstub_handler_with_keys[];

// As the kernel has it; glibc's differs.
struct kernel_action {
  uint64_t handler, flags, restorer, mask;
};

enum { SA_RESTORER_FLAG = 0x04000000 };

static void install(char *configuration, size_t slot, size_t place, const struct sock_filter *program, size_t count) {
  // struct sock_fprog: a count, and the address as the stub sees it.
  uint16_t length = (uint16_t)count;
  uint64_t address = CSTUB_CONFIGURATION + place;
  memcpy(configuration + place, program, count * sizeof *program);
  memcpy(configuration + slot, &length, sizeof length);
  memcpy(configuration + slot + 8, &address, sizeof address);
}

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(field))
#define LOW(n) (offsetof(struct seccomp_data, args) + 8 * (n))
#define HIGH(n) (LOW(n) + 4)
#define IP offsetof(struct seccomp_data, instruction_pointer)
#define RETURN(value) BPF_STMT(BPF_RET | BPF_K, (value))
#define EQUAL(value, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(value), (yes), (no))
#define AT_LEAST(value, yes, no) BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, (uint32_t)(value), (yes), (no))

// Guest code's system calls are traps, whatever their number and convention; only the handler's own two pass. That they
// come from the stub's page tells them from the guest's, whose numbers are its own affair; it protects nothing, because
// the guest can jump there. The arguments do: nothing but waiting for and waking words in the frames.
static void guest_filter(char *configuration, uint32_t threads) {
  const uint32_t frames_end = (uint32_t)(CSTUB_FRAMES & 0xffffffff) + (threads + 1) * CSTUB_AREA_SIZE;
  const struct sock_filter program[] = {
      LOAD(offsetof(struct seccomp_data, arch)),
      EQUAL(AUDIT_ARCH_X86_64, 0, 22),
      LOAD(IP + 4),
      EQUAL(CSTUB_CODE >> 32, 0, 20),
      LOAD(IP),
      AT_LEAST(CSTUB_CODE & 0xffffffff, 0, 18),
      AT_LEAST((CSTUB_CODE & 0xffffffff) + 4097, 17, 0),
      LOAD(offsetof(struct seccomp_data, nr)),
      EQUAL(SYS_rt_sigreturn, 16, 0),
      EQUAL(SYS_futex, 0, 14),
      LOAD(HIGH(0)),
      EQUAL(CSTUB_FRAMES >> 32, 0, 12),
      LOAD(LOW(0)),
      AT_LEAST(frames_end, 10, 0),
      AT_LEAST(CSTUB_FRAMES & 0xffffffff, 0, 9),
      LOAD(LOW(3)),
      EQUAL(0, 0, 7),
      LOAD(HIGH(3)),
      EQUAL(0, 0, 5),
      LOAD(LOW(1)),
      EQUAL(FUTEX_WAIT, 4, 0),
      EQUAL(FUTEX_WAKE, 0, 2),
      LOAD(LOW(2)),
      EQUAL(1, 1, 0),
      RETURN(SECCOMP_RET_TRAP),
      RETURN(SECCOMP_RET_ALLOW),
  };
  install(configuration, CSTUB_CONF_GUEST_FILTER, CSTUB_CONF_PROGRAMS, program, sizeof program / sizeof *program);
}

// The mapper runs only this file's assembly. Still: guest RAM is all that it can map, its own two events all that it can
// touch.
static void mapper_filter(char *configuration) {
  const struct sock_filter program[] = {
      LOAD(offsetof(struct seccomp_data, arch)),
      EQUAL(AUDIT_ARCH_X86_64, 0, 14),
      LOAD(offsetof(struct seccomp_data, nr)),
      EQUAL(SYS_munmap, 13, 0),
      EQUAL(SYS_mmap, 3, 0),
      EQUAL(SYS_read, 6, 0),
      EQUAL(SYS_write, 7, 0),
      RETURN(SECCOMP_RET_KILL_PROCESS),
      LOAD(LOW(4)),
      EQUAL(CSTUB_FD_MEMORY, 0, 6),
      LOAD(LOW(3)),
      EQUAL(MAP_SHARED | MAP_FIXED, 5, 4),
      LOAD(LOW(0)),
      EQUAL(CSTUB_FD_REQUEST, 3, 2),
      LOAD(LOW(0)),
      EQUAL(CSTUB_FD_DONE, 1, 0),
      RETURN(SECCOMP_RET_KILL_PROCESS),
      RETURN(SECCOMP_RET_ALLOW),
  };
  install(
      configuration, CSTUB_CONF_MAPPER_FILTER, CSTUB_CONF_PROGRAMS + 0x400, program, sizeof program / sizeof *program);
}

void cstub_configure(void *memory, uint32_t threads, uint32_t spin) {
  char *configuration = memory;
  memcpy(configuration + CSTUB_CONF_THREADS, &threads, sizeof threads);
  memcpy(configuration + CSTUB_CONF_SPIN, &spin, sizeof spin);
  const uint8_t signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGUSR1, 0};
  memcpy(configuration + CSTUB_CONF_SIGNALS, signals, sizeof signals);
  // All signals stay blocked in the handler, so that frames never nest. It ends by a system call of its own, so the
  // restorer, which the kernel demands, is never used.
  const uint64_t entry = CSTUB_CODE + CSTUB_ENTRY_OFFSET;
  const char *const handler = cstub_has_protection_keys() ? cstub_handler_with_keys : cstub_handler;
  const struct kernel_action action = {
      .handler = entry + (uint64_t)(handler - cstub_code_start),
      .flags = SA_SIGINFO | SA_ONSTACK | SA_RESTORER_FLAG,
      .restorer = entry,
      .mask = ~0ull,
  };
  memcpy(configuration + CSTUB_CONF_ACTION, &action, sizeof action);
  memset(configuration + CSTUB_CONF_ALL, 0xff, 8);
  guest_filter(configuration, threads);
  mapper_filter(configuration);
  for (uint64_t error = 0; error < (CSTUB_CONF_TABLE - CSTUB_CONF_RESULTS) / 8; error++) {
    uint64_t result = error + 1;
    memcpy(configuration + CSTUB_CONF_RESULTS + 8 * error, &result, sizeof result);
  }
}

void cstub_configure_segments(void *memory, uint32_t base) {
  char *configuration = memory;
  // struct user_desc: number, base, limit, and bits: 32-bit, contents (data, code), limit in pages, usable.
  const uint32_t segments[2][4] = {{0, base, 0xfffff, 1 | 2 << 1 | 1 << 4 | 1 << 6},
                                   {1, base, 0xfffff, 1 | 0 << 1 | 1 << 4 | 1 << 6}};
  const uint32_t count = 2;
  memcpy(configuration + CSTUB_CONF_SEGMENT_COUNT, &count, sizeof count);
  memcpy(configuration + CSTUB_CONF_SEGMENTS, segments, sizeof segments);
}

void cstub_configure_window(void *memory, uint64_t address, uint64_t size, uint64_t offset) {
  char *configuration = memory;
  memcpy(configuration + CSTUB_CONF_WINDOW_ADDRESS, &address, sizeof address);
  memcpy(configuration + CSTUB_CONF_WINDOW_SIZE, &size, sizeof size);
  memcpy(configuration + CSTUB_CONF_WINDOW_OFFSET, &offset, sizeof offset);
}

// An executable of one page: header, one segment, the code.
static int image_file(void) {
  char image[4096];
  const size_t size = (size_t)(cstub_code_end - cstub_code_start);
  if (size > sizeof image - CSTUB_ENTRY_OFFSET) return -ENOEXEC;
  memset(image, 0, sizeof image);
  const Elf64_Ehdr header = {
      .e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
      .e_type = ET_EXEC, .e_machine = EM_X86_64, .e_version = EV_CURRENT, .e_entry = CSTUB_CODE + CSTUB_ENTRY_OFFSET,
      .e_phoff = sizeof header, .e_ehsize = sizeof header, .e_phentsize = sizeof(Elf64_Phdr), .e_phnum = 2};
  const Elf64_Phdr segments[] = {
      {.p_type = PT_LOAD, .p_flags = PF_R | PF_X, .p_vaddr = CSTUB_CODE, .p_paddr = CSTUB_CODE,
       .p_filesz = sizeof image, .p_memsz = sizeof image, .p_align = sizeof image},
      {.p_type = PT_GNU_STACK, .p_flags = PF_R | PF_W}};
  memcpy(image, &header, sizeof header);
  memcpy(image + sizeof header, segments, sizeof segments);
  memcpy(image + CSTUB_ENTRY_OFFSET, cstub_code_start, size);
  int file = cstub_memory_file("trivisor-sandbox", 0);
  if (file < 0) return file;
  if (write(file, image, sizeof image) != (ssize_t)sizeof image) {
    int error = errno;
    close(file);
    return -error;
  }
  return file;
}

// Where even the least number asked for is past the limit of descriptors, the error is EINVAL.
static void name_shortage(void) {
  if (errno == EINVAL) errno = EMFILE;
}

// In the child, which borrows the parent's memory until it executes: system calls only.
static void become_stub(int image, const int descriptors[4], pid_t parent) {
  int high[5];
  for (int i = 0; i < 4; i++) {
    high[i] = fcntl(descriptors[i], F_DUPFD, 16);
    if (high[i] < 0) return name_shortage();
  }
  high[4] = fcntl(image, F_DUPFD_CLOEXEC, 16);
  if (high[4] < 0) return name_shortage();
  for (int i = 0; i < 4; i++) {
    if (dup2(high[i], CSTUB_FD_MEMORY + i) < 0) return;
  }
  // All others go, standard input and output too; the image's own goes by executing it.
  if (syscall(SYS_close_range, 0, 2, 0) != 0) return;
  if (dup2(high[4], 7) < 0 || fcntl(7, F_SETFD, FD_CLOEXEC) != 0 || syscall(SYS_close_range, 8, ~0u, 0) != 0) return;

  // A session of its own: what is typed at the terminal is not for it.
  setsid();
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent) return;
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return;
  const struct { int resource; rlim_t value; } limits[] = {
      {RLIMIT_CORE, 0}, {RLIMIT_FSIZE, 0}, {RLIMIT_MEMLOCK, 0}, {RLIMIT_MSGQUEUE, 0}, {RLIMIT_NOFILE, 8},
      {RLIMIT_SIGPENDING, 64}};
  for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
    const struct rlimit limit = {limits[i].value, limits[i].value};
    if (setrlimit(limits[i].resource, &limit) != 0) return;
  }
  // The kernel puts stack and vDSO at the very end, out of the stub's way, until the stub unmaps them.
  personality(ADDR_NO_RANDOMIZE);
  char *const empty[] = {NULL};
  char *const name[] = {(char *)"trivisor-sandbox", NULL};
  syscall(SYS_execveat, 7, "", name, empty, AT_EMPTY_PATH);
}

pid_t cstub_spawn(int memory, int shared, int request, int done) {
  const int descriptors[4] = {memory, shared, request, done};
  const int image = image_file();
  if (image < 0) return image;
  const pid_t parent = getpid();
  // Until the child has executed it shares this thread's stack: a signal handler must not run on it.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  volatile int error = 0;
  const pid_t child = vfork();
  if (child == 0) {
    become_stub(image, descriptors, parent);
    error = errno;
    _exit(127);
  }
  const int failure = child < 0 ? errno : error;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  close(image);
  if (child > 0 && failure != 0) waitpid(child, NULL, 0);
  return failure != 0 ? -failure : child;
}

void cstub_futex_wait(uint32_t *word, uint32_t value, uint64_t nanoseconds) {
  const struct timespec limit = {(time_t)(nanoseconds / 1000000000), (long)(nanoseconds % 1000000000)};
  syscall(SYS_futex, word, FUTEX_WAIT, value, &limit, NULL, 0);
}

void cstub_futex_wake(uint32_t *word) { syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0); }

uint32_t cstub_load(const uint32_t *word) { return __atomic_load_n(word, __ATOMIC_SEQ_CST); }
void cstub_store(uint32_t *word, uint32_t value) { __atomic_store_n(word, value, __ATOMIC_SEQ_CST); }

uint32_t cstub_set_bits(uint32_t *word, uint32_t bits) { return __atomic_fetch_or(word, bits, __ATOMIC_SEQ_CST); }
uint32_t cstub_clear_bits(uint32_t *word, uint32_t bits) { return __atomic_fetch_and(word, ~bits, __ATOMIC_SEQ_CST); }

uint64_t cstub_timestamp(void) { return __builtin_ia32_rdtsc(); }

void cstub_identification(uint32_t leaf, uint32_t subleaf, uint32_t *words) {
  __cpuid_count(leaf, subleaf, words[0], words[1], words[2], words[3]);
}

int cstub_has_protection_keys(void) {
  uint32_t words[4];
  cstub_identification(0, 0, words);
  if (words[0] < 7) return 0;
  cstub_identification(7, 0, words);
  return (words[2] & 1u << 4) != 0;  // ECX.OSPKE: CR4.PKE is set
}

int cstub_kick(pid_t process, pid_t thread) { return (int)syscall(SYS_tgkill, process, thread, SIGUSR1); }

int cstub_wait(pid_t process) {
  siginfo_t information;
  int result;
  do {
    result = waitid(P_PID, (id_t)process, &information, WEXITED | WNOWAIT);
  } while (result != 0 && errno == EINTR);
  return result;
}

int cstub_reap(pid_t process) {
  int status = 0;
  while (waitpid(process, &status, 0) < 0 && errno == EINTR) {}
  return status;
}

int cstub_memory_file(const char *name, uint64_t size) {
  const int file = memfd_create(name, MFD_CLOEXEC);
  if (file < 0) return -errno;
  if (size > 0 && ftruncate(file, (off_t)size) != 0) {
    const int error = errno;
    close(file);
    return -error;
  }
  return file;
}

int cstub_pin(pid_t thread, int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  return sched_setaffinity(thread, sizeof set, &set);
}

int cstub_unpin(void) {
  cpu_set_t set;
  if (sched_getaffinity(getpid(), sizeof set, &set) != 0) return -1;
  return sched_setaffinity(0, sizeof set, &set);
}

int cstub_processor_after(int first, uint32_t number) {
  cpu_set_t set;
  // Of the first thread: the calling one may be pinned already.
  if (sched_getaffinity(getpid(), sizeof set, &set) != 0 || CPU_COUNT(&set) == 0) return first;
  number %= (uint32_t)CPU_COUNT(&set);
  int cpu = first;
  while (number > 0 || !CPU_ISSET(cpu, &set)) {
    cpu = (cpu + 1) % CPU_SETSIZE;
    if (CPU_ISSET(cpu, &set) && number > 0) number--;
  }
  return cpu;
}

int cstub_current_cpu(void) { return sched_getcpu(); }

int cstub_may_gain_execution(void) {
  enum { GET_MDWE = 66, MDWE_REFUSE_EXEC_GAIN = 1 };
  const int flags = prctl(GET_MDWE, 0, 0, 0, 0);
  return flags < 0 || !(flags & MDWE_REFUSE_EXEC_GAIN);
}

int cstub_has_trapping_filters(void) {
  const uint32_t action = SECCOMP_RET_TRAP;
  return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
}

int cstub_has_segments(void) {
  enum { READ_LDT = 0 };
  uint64_t entry;
  return syscall(SYS_modify_ldt, READ_LDT, &entry, sizeof entry) >= 0;
}

int cstub_has_fsgsbase(void) { return (getauxval(AT_HWCAP2) & 2) != 0; }

uint64_t cstub_minimum_signal_stack(void) { return getauxval(51); }  // AT_MINSIGSTKSZ
