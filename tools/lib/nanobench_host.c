// The operations of guest:nanobench as far as a program of the host can do them: what they cost without another machine in
// between. What a kernel does by itself (control registers, page tables, its interrupts) a program can't measure.
//
// The quickest of three rounds after one that does not count, in cycles of the time stamp counter, as the guest measures.

#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/io.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

enum { ROUNDS = 4, OPERATIONS = 200, PAGES = 64, CALLS = 100000 };

static inline uint64_t timestamp(void) {
  uint32_t low, high;
  __asm__ volatile("lfence; rdtsc" : "=a"(low), "=d"(high));
  return (uint64_t)high << 32 | low;
}

static void report(const char *name, uint64_t cycles, uint64_t count) {
  printf("  %s: %llu cycles\n", name, (unsigned long long)((cycles + count / 2) / count));
}

#define MEASURE(name, count, round, between)                   \
  do {                                                         \
    uint64_t best = UINT64_MAX;                                \
    for (int number = 0; number < ROUNDS; number++) {          \
      uint64_t start = timestamp();                            \
      round;                                                   \
      uint64_t cycles = timestamp() - start;                   \
      if (number > 0 && cycles < best) best = cycles;          \
      between;                                                 \
    }                                                          \
    report(name, best, count);                                 \
  } while (0)

static void skip_division(int signal, siginfo_t *info, void *context) {
  (void)signal, (void)info;
  ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] += 2;  // div %ecx
}

static void divide(void) { __asm__ volatile("xor %%ecx, %%ecx; div %%ecx" : : : "eax", "ecx", "edx", "cc"); }

static void call_and_return(void) {
  uint64_t count = CALLS;
  // The guest's loop (guests/platform/user/user.h).
  __asm__ volatile(".p2align 6; 1: call 3f; dec %0; jnz 1b; jmp 2f; 3: ret; 2:" : "+r"(count) : : "memory", "cc");
}

static int backing;

static char *map_pages(char *place) {
  for (int page = 0; page < PAGES; page++) {
    void *result = mmap(place + 4096 * page, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, backing, 0);
    if (result == MAP_FAILED) exit(1);
  }
  return place;
}

static void touch_pages(char *place) {
  for (int page = 0; page < PAGES; page++) *(volatile char *)(place + 4096 * page) = 1;
}

// One byte to and fro between two processes on one processor: each way is one switch.
static void hand_over(int out, int in, int count) {
  char byte = 0;
  for (int number = 0; number < count; number++) {
    if (write(out, &byte, 1) != 1 || read(in, &byte, 1) != 1) exit(1);
  }
}

int main(void) {
  cpu_set_t processor;
  CPU_ZERO(&processor);
  CPU_SET(sched_getcpu(), &processor);
  sched_setaffinity(0, sizeof processor, &processor);

  MEASURE("system call", OPERATIONS, for (int i = 0; i < OPERATIONS; i++) syscall(SYS_getppid), );
  if (ioperm(0x80, 1, 1) == 0) MEASURE("port read", OPERATIONS, for (int i = 0; i < OPERATIONS; i++) inb(0x80), );
  MEASURE("call and return", CALLS, call_and_return(), );

  backing = memfd_create("page", 0);
  if (backing < 0 || ftruncate(backing, 4096) != 0) return 1;
  char *place = mmap(NULL, PAGES * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (place == MAP_FAILED) return 1;
  touch_pages(map_pages(place));
  map_pages(place);
  MEASURE("page fault", PAGES, touch_pages(place), map_pages(place));

  struct sigaction action = {.sa_sigaction = skip_division, .sa_flags = SA_SIGINFO};
  sigaction(SIGFPE, &action, NULL);
  MEASURE("divide by zero", OPERATIONS, for (int i = 0; i < OPERATIONS; i++) divide(), );

  int there[2], back[2];
  if (pipe(there) != 0 || pipe(back) != 0) return 1;
  pid_t other = fork();
  if (other < 0) return 1;
  if (other == 0) {
    char byte;
    while (read(there[0], &byte, 1) == 1 && write(back[1], &byte, 1) == 1) continue;
    _exit(0);
  }
  // The other one gets the end of its pipe by this one's death.
  close(there[0]);
  close(back[1]);
  MEASURE("context switch", OPERATIONS, hand_over(there[1], back[0], OPERATIONS / 2), );
  kill(other, SIGKILL);
  waitpid(other, NULL, 0);
  return 0;
}
