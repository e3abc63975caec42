// What this host needs for the pieces of a round trip between guest code and monitor, in nanoseconds: tools/bench
// paravirtual compiles and runs this beside a guest that measures the whole.
#define _GNU_SOURCE
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS = 20000 };

static uint64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static void report(const char *what, uint64_t start, int rounds) {
  printf("%s: %lu\n", what, (unsigned long)((now() - start) / (uint64_t)rounds));
  fflush(stdout);
}

static cpu_set_t allowed;

static void pin(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  sched_setaffinity(0, sizeof set, &set);
}

// Another processor than this one; -1 if there is none.
static int other(void) {
  for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
    if (CPU_ISSET(cpu, &allowed) && cpu != sched_getcpu()) return cpu;
  }
  return -1;
}

static void nothing(int number) { (void)number; }
static void skip(int number, siginfo_t *information, void *context) {
  (void)number, (void)information, (void)context;
}

static void signals(void) {
  struct sigaction action = {.sa_handler = nothing};
  sigaction(SIGTRAP, &action, NULL);
  uint64_t start = now();
  for (int i = 0; i < ROUNDS; i++) __asm__ volatile("int3");
  report("a signal by INT3, delivery and return", start, ROUNDS);
}

static void systemCalls(void) {
  uint64_t start = now();
  for (int i = 0; i < ROUNDS; i++) syscall(SYS_getppid);
  report("a system call of the host's", start, ROUNDS);
}

static void filtered(void) {
  if (fork() == 0) {
    struct sigaction action = {.sa_sigaction = skip, .sa_flags = SA_SIGINFO};
    sigaction(SIGSYS, &action, NULL);
    struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    struct sock_fprog filter = {sizeof program / sizeof *program, program};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter);
    uint64_t start = now();
    for (int i = 0; i < ROUNDS; i++) syscall(SYS_getppid);
    report("a signal by a system call filter (seccomp), delivery and return", start, ROUNDS);
    _exit(0);
  }
  wait(NULL);
}

// Waits until the word has a value, looking so many times before it sleeps.
static void await(uint32_t *word, uint32_t *sleeps, uint32_t value, int spin) {
  for (int i = 0; i < spin; i++) {
    if (__atomic_load_n(word, __ATOMIC_SEQ_CST) == value) return;
    __builtin_ia32_pause();
  }
  __atomic_store_n(sleeps, 1, __ATOMIC_SEQ_CST);
  while (__atomic_load_n(word, __ATOMIC_SEQ_CST) != value) syscall(SYS_futex, word, FUTEX_WAIT, !value, NULL, NULL, 0);
  __atomic_store_n(sleeps, 0, __ATOMIC_SEQ_CST);
}

static void give(uint32_t *word, uint32_t *sleeps, uint32_t value) {
  __atomic_store_n(word, value, __ATOMIC_SEQ_CST);
  if (__atomic_load_n(sleeps, __ATOMIC_SEQ_CST)) syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

// As the sandbox and its monitor do; on `cpu`, if that is none of the caller's.
static void handOver(const char *what, int cpu, int spin, int rounds) {
  uint32_t *words = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (fork() == 0) {
    if (cpu >= 0) pin(cpu);
    for (int i = 0; i < rounds; i++) {
      await(words, words + 1, 1, spin);
      give(words, words + 2, 0);
    }
    _exit(0);
  }
  uint64_t start = now();
  for (int i = 0; i < rounds; i++) {
    give(words, words + 1, 1);
    await(words, words + 2, 0, spin);
  }
  report(what, start, rounds);
  wait(NULL);
}

// As the mapper does: pages of a memory file mapped over others, so many for each hand-over.
static void mapping(const char *what, int batch) {
  enum { PAGES = 1024 };
  int file = memfd_create("pages", 0);
  int request = eventfd(0, 0), done = eventfd(0, 0);
  if (file < 0 || request < 0 || done < 0 || ftruncate(file, 2 * PAGES * 4096) != 0) exit(1);
  char *area = mmap(NULL, PAGES * 4096, PROT_READ, MAP_SHARED, file, 0);
  const int rounds = 4 * PAGES / batch;
  uint64_t value;
  if (fork() == 0) {
    int page = 0;
    for (int i = 0; i < rounds; i++) {
      if (read(request, &value, sizeof value) != sizeof value) _exit(1);
      for (int j = 0; j < batch; j++, page = (page + 1) % PAGES) {
        mmap(area + page * 4096L, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, (PAGES - page) * 4096L);
      }
      value = 1;
      if (write(done, &value, sizeof value) != sizeof value) _exit(1);
    }
    _exit(0);
  }
  uint64_t start = now();
  for (int i = 0; i < rounds; i++) {
    value = 1;
    if (write(request, &value, sizeof value) != sizeof value || read(done, &value, sizeof value) != sizeof value) exit(1);
  }
  report(what, start, rounds * batch);
  wait(NULL);
  munmap(area, PAGES * 4096);
  close(file), close(request), close(done);
}

static void tracing(void) {
  pid_t child = fork();
  if (child == 0) {
    ptrace(PTRACE_TRACEME, 0, 0, 0);
    raise(SIGSTOP);
    while (1) syscall(SYS_getppid);
  }
  int status;
  waitpid(child, &status, 0);
  uint64_t start = now();
  for (int i = 0; i < ROUNDS / 4; i++) {
    struct user_regs_struct registers;
    ptrace(PTRACE_SYSEMU, child, 0, 0);
    waitpid(child, &status, 0);
    ptrace(PTRACE_GETREGS, child, 0, &registers);
    ptrace(PTRACE_SETREGS, child, 0, &registers);
  }
  report("ptrace: to the next system call, registers read and written", start, ROUNDS / 4);
  kill(child, SIGKILL);
  waitpid(child, &status, 0);
}

int main(void) {
  sched_getaffinity(0, sizeof allowed, &allowed);
  pin(sched_getcpu());
  systemCalls();
  signals();
  filtered();
  handOver("handing over to another process and back by futex, one processor", -1, 0, ROUNDS);
  if (other() >= 0) {
    handOver("handing over by futex, two processors", other(), 0, ROUNDS / 10);
    handOver("handing over by futex, two processors that look 2000 times first", other(), 2000, ROUNDS);
  }
  tracing();
  mapping("a page mapped by another process, one for each hand-over", 1);
  mapping("a page mapped by another process, 8 for each hand-over", 8);
  mapping("a page mapped by another process, 64 for each hand-over", 64);
  mapping("a page mapped by another process, 512 for each hand-over", 512);
  return 0;
}
