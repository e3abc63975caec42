// What programs ask of a system, a line each, for tools/check-userland: the same static binary must print the same on
// the host and in a guest.
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/time.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static sigjmp_buf back;
static volatile siginfo_t seen;

static void caught(int number, siginfo_t *info, void *context) {
  (void)number, (void)context;
  // The kernel leaves AC as it was.
  __asm__ volatile("lea -128(%%rsp), %%rsp; pushfq; andl $~0x40000, (%%rsp); popfq; lea 128(%%rsp), %%rsp" : : : "memory", "cc");
  memcpy((void *)&seen, info, sizeof *info);
  siglongjmp(back, 1);
}

static void catching(int number, void (*body)(void), const char *name, int showsAddress) {
  struct sigaction action = {.sa_sigaction = caught, .sa_flags = SA_SIGINFO | SA_ONSTACK};
  sigaction(number, &action, NULL);
  memset((void *)&seen, 0, sizeof seen);
  if (!sigsetjmp(back, 1)) body();
  printf("%s: signal %d code %d", name, seen.si_signo, seen.si_code);
  if (showsAddress) printf(" address %#lx", (unsigned long)seen.si_addr);
  puts("");
  signal(number, SIG_DFL);
}

static volatile int zero;
static void divide(void) { zero = 5 / zero; }
static void write_low(void) { *(volatile int *)0x123456 = 1; }
static void run_data(void) {
  void *page = mmap((void *)0x7000000, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  ((void (*)(void))page)();
}
static void undefined(void) { __asm__ volatile("ud2"); }
static void breakpoint(void) { __asm__ volatile("int3"); }
static void privileged(void) { __asm__ volatile("hlt"); }
static void float_divide(void) {
  unsigned control = 0x1f80 & ~(1u << 9);
  volatile double a = 1, b = 0;
  __asm__ volatile("ldmxcsr %0" : : "m"(control));
  a = a / b;
}

static void floating(void) {
  double x = 0.1, sum = 0;
  for (int i = 1; i < 100000; i++) {
    sum += x / i - (double)(float)(x * i);
    x = x * 1.0000001 + 1.0 / i;
  }
  long double y = 1;
  for (int i = 1; i < 200; i++) y = y * 1.1L + 1.0L / i;
  printf("floating: %.17g %.20Lg\n", sum, y);
}

static void aligned_check(void) {
  // RFLAGS.AC makes a misaligned access SIGBUS.
  __asm__ volatile("pushfq; orl $0x40000, (%%rsp); popfq; lea 1(%%rsp), %%rax; movl (%%rax), %%eax" : : : "rax", "memory");
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long counter, atomic_counter;
static __thread int own;
static void *worker(void *argument) {
  for (int i = 0; i < 20000; i++) {
    pthread_mutex_lock(&lock);
    counter++;
    pthread_mutex_unlock(&lock);
    __atomic_fetch_add(&atomic_counter, 1, __ATOMIC_SEQ_CST);
    own++;
  }
  return (void *)(own + (intptr_t)argument);
}

static void threads(void) {
  pthread_t all[4];
  long sum = 0;
  for (intptr_t i = 0; i < 4; i++) pthread_create(&all[i], NULL, worker, (void *)i);
  for (int i = 0; i < 4; i++) {
    void *result;
    pthread_join(all[i], &result);
    sum += (intptr_t)result;
  }
  printf("threads: %ld %ld %ld\n", counter, atomic_counter, sum);
}

static void vforks(const char *self) {
  int good = 0;
  for (int i = 0; i < 50; i++) {
    pid_t child = vfork();
    if (child == 0) {
      execl(self, self, "seven", NULL);
      _exit(1);
    }
    int status;
    waitpid(child, &status, 0);
    good += WIFEXITED(status) && WEXITSTATUS(status) == 7;
  }
  for (int i = 0; i < 300; i++) {
    pid_t child = fork();
    if (child == 0) _exit(i & 127);
    int status;
    waitpid(child, &status, 0);
    good += WIFEXITED(status) && WEXITSTATUS(status) == (i & 127);
  }
  printf("children: %d of 350\n", good);
}

extern char steps_begin[], steps_middle[], steps_end[];
__attribute__((noinline)) static void steps(void) {
  __asm__ volatile(
    "mov $3, %%ecx\n"
    ".globl steps_begin, steps_middle, steps_end\n"
    "steps_begin: nop\n"
    "lea 1(%%rax), %%rdx\n"
    "steps_middle: push %%rdx\n"
    "pop %%rdx\n"
    "pushfq\npopfq\n"
    "dec %%ecx\n"
    "jnz steps_begin\n"
    "cld\nrep stosb\n"
    "cpuid\n"
    "steps_end: nop\n"
    : : "c"(0), "D"(&counter) : "rax", "rbx", "rdx", "memory");
}

static void traced(int usesBreakpoint) {
  pid_t child = fork();
  if (child == 0) {
    ptrace(PTRACE_TRACEME, 0, 0, 0);
    raise(SIGSTOP);
    steps();
    _exit(0);
  }
  int status;
  waitpid(child, &status, 0);
  long inside = 0, hits = 0;
  if (usesBreakpoint) {
    ptrace(PTRACE_POKEUSER, child, offsetof(struct user, u_debugreg[0]), steps_middle);
    if (ptrace(PTRACE_POKEUSER, child, offsetof(struct user, u_debugreg[7]), 1) != 0) perror("debugreg");
    while (ptrace(PTRACE_CONT, child, 0, 0) == 0 && waitpid(child, &status, 0) == child && WIFSTOPPED(status)) hits++;
    printf("breakpoint: hit %ld times, end %d\n", hits, WIFEXITED(status) ? WEXITSTATUS(status) : -1);
    return;
  }
  while (ptrace(PTRACE_SINGLESTEP, child, 0, 0) == 0 && waitpid(child, &status, 0) == child && WIFSTOPPED(status)) {
    struct user_regs_struct registers;
    ptrace(PTRACE_GETREGS, child, 0, &registers);
    if (registers.rip >= (uintptr_t)steps_begin && registers.rip <= (uintptr_t)steps_end) inside++;
  }
  printf("single steps: %ld inside, end %d\n", inside, WIFEXITED(status) ? WEXITSTATUS(status) : -1);
}

static volatile int ticks;
static void tick(int number) { (void)number, ticks++; }
static void timers(void) {
  signal(SIGALRM, tick);
  struct itimerval interval = {{0, 5000}, {0, 5000}};
  struct timespec before, after, nap = {0, 30000000};
  clock_gettime(CLOCK_MONOTONIC, &before);
  setitimer(ITIMER_REAL, &interval, NULL);
  while (ticks < 10) pause();
  memset(&interval, 0, sizeof interval);
  setitimer(ITIMER_REAL, &interval, NULL);
  while (nanosleep(&nap, &nap) != 0 && errno == EINTR) {}
  clock_gettime(CLOCK_MONOTONIC, &after);
  double elapsed = (after.tv_sec - before.tv_sec) + (after.tv_nsec - before.tv_nsec) * 1e-9;
  printf("timers: at least 10 ticks and 80 ms: %s\n", ticks >= 10 && elapsed >= 0.079 && elapsed < 20 ? "yes" : "no");
}

__attribute__((target("avx2"))) static void vectors(void) {
  float a[64], b[64];
  int sum = 0;
  for (int i = 0; i < 64; i++) a[i] = i * 0.5f, b[i] = 64 - i;
  for (int round = 0; round < 1000; round++)
    for (int i = 0; i < 64; i++) a[i] = a[i] * 0.99f + b[i] / (i + 1);
  for (int i = 0; i < 64; i++) sum += (int)(a[i] * 100);
  printf("vectors: %d\n", sum);
}

static int written;
static void self_modifying(void) {
  unsigned char *code = mmap(NULL, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  // mov $imm32, %eax; ret, across a page boundary; the immediate is changed each time.
  unsigned char *place = code + 4096 - 3;
  place[0] = 0xb8, place[5] = 0xc3;
  uint64_t sum = 0;
  for (uint32_t i = 0; i < 2000; i++) {
    uint32_t value = i * 2654435761u;
    if (i % 3 == 0) memcpy(place + 1, &value, 4);
    else for (int b = 0; b < 4; b++) ((volatile unsigned char *)place)[1 + b] = value >> 8 * b;
    uint32_t got = ((uint32_t (*)(void))place)();
    if (got != value) written++;
    sum += got;
  }
  printf("self-modifying: %llu, %d wrong\n", (unsigned long long)sum, written);
}

int main(int count, char **words) {
  if (count > 1 && !strcmp(words[1], "seven")) return 7;
  setvbuf(stdout, NULL, _IONBF, 0);
  stack_t stack = {.ss_sp = malloc(65536), .ss_size = 65536};
  sigaltstack(&stack, NULL);
  floating();
  vectors();
  catching(SIGFPE, divide, "divide", 0);
  catching(SIGFPE, float_divide, "float divide", 0);
  catching(SIGSEGV, write_low, "store", 1);
  catching(SIGSEGV, run_data, "data as code", 1);
  catching(SIGSEGV, privileged, "hlt", 0);
  catching(SIGILL, undefined, "ud2", 0);
  catching(SIGTRAP, breakpoint, "int3", 0);
  catching(SIGBUS, aligned_check, "misaligned", 0);
  threads();
  vforks("/proc/self/exe");
  traced(0);
  traced(1);
  timers();
  self_modifying();
  puts("userland: done");
  return 0;
}
