// Runs the user program of guest:compute as a program of the host: the same bytes, without a guest around them. Prints the
// nanoseconds of a round.
//
//     compute_host IMAGE ROUNDS
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

enum { SIZE = 0x1000000 };
static char *const program = (char *)0x40000000;
static const uint64_t roundDone = 7;
static uint64_t rounds, left, start;

static uint64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

// INT 4 with a stage in RAX. The first round is not counted.
static void systemCall(int number, siginfo_t *information, void *context) {
  (void)number, (void)information;
  const greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
  if (registers[REG_TRAPNO] != 4) _exit(1);
  if ((uint64_t)registers[REG_RAX] != roundDone) return;
  if (left == rounds) start = now();
  if (left-- > 0) return;
  printf("%lu\n", (unsigned long)((now() - start) / rounds));
  fflush(stdout);
  _exit(0);
}

int main(int count, char **arguments) {
  if (count != 3) return 64;
  rounds = left = strtoul(arguments[2], NULL, 10);
  const int file = open(arguments[1], O_RDONLY);
  struct stat status;
  if (file < 0 || fstat(file, &status) != 0) return 66;
  const unsigned char *image = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, file, 0);
  if (image == MAP_FAILED) return 66;
  // The user program begins at a page, with: mov %esi, …(%rip); fninit; ldmxcsr …(%rip).
  size_t offset = 0;
  for (; offset + 4096 <= (size_t)status.st_size; offset += 16) {
    const unsigned char *place = image + offset;
    if (place[0] == 0x89 && place[1] == 0x35 && place[6] == 0xdb && place[7] == 0xe3 && place[8] == 0x0f) break;
  }
  if (offset + 4096 > (size_t)status.st_size) return 65;
  char *memory = mmap(program, SIZE, PROT_READ | PROT_WRITE | PROT_EXEC,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_POPULATE, -1, 0);
  if (memory != program) return 71;
  const size_t rest = (size_t)status.st_size - offset;
  memcpy(program, image + offset, rest < 0x100000 ? rest : 0x100000);
  static char stack[1 << 16];
  const stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
  sigaltstack(&alternate, NULL);
  struct sigaction action = {.sa_sigaction = systemCall, .sa_flags = SA_SIGINFO | SA_ONSTACK};
  sigaction(SIGSEGV, &action, NULL);
  __asm__ volatile("mov %0, %%rsp; xor %%edi, %%edi; xor %%esi, %%esi; jmp *%1" : : "r"(program + SIZE), "r"(program) : "memory");
  return 70;
}
