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

static void pin(void) {
  cpu_set_t set;
  int cpu = sched_getcpu();
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  sched_setaffinity(0, sizeof set, &set);
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

static void handOver(void) {
  uint32_t *word = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  pid_t child = fork();
  if (child == 0) {
    for (int i = 0; i < ROUNDS; i++) {
      while (__atomic_load_n(word, __ATOMIC_SEQ_CST) != 1) syscall(SYS_futex, word, FUTEX_WAIT, 0, NULL, NULL, 0);
      __atomic_store_n(word, 0, __ATOMIC_SEQ_CST);
      syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
    }
    _exit(0);
  }
  uint64_t start = now();
  for (int i = 0; i < ROUNDS; i++) {
    __atomic_store_n(word, 1, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
    while (__atomic_load_n(word, __ATOMIC_SEQ_CST) != 0) syscall(SYS_futex, word, FUTEX_WAIT, 1, NULL, NULL, 0);
  }
  report("handing over to another process and back by futex, one processor", start, ROUNDS);
  wait(NULL);
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
  pin();
  systemCalls();
  signals();
  filtered();
  handOver();
  tracing();
  return 0;
}
