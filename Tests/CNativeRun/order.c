// Which operand of CMPS the host's processor reads first: manuals leave it open, and processors differ.
#define _GNU_SOURCE
#include "CNativeRun.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

static void *volatile address;

// Goes on behind the instruction, by the frame: leaving a handler in another way would leave the alternate stack disarmed.
static void handle(int number, siginfo_t *info, void *context) {
  (void)number;
  address = info->si_addr;
  ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] += 1;
}

static int order = -1;

static void find_out(void) {
  char *pages = mmap(NULL, 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO | SA_ONSTACK}, previous;
  sigemptyset(&action.sa_mask);
  if (pages == MAP_FAILED) return;
  if (sigaction(SIGSEGV, &action, &previous) == 0) {
    char *source = pages, *destination = pages + 4096;
    __asm__ volatile("cmpsb" : "+S"(source), "+D"(destination) : : "memory", "cc");
    order = address == pages;
    sigaction(SIGSEGV, &previous, NULL);
  }
  munmap(pages, 8192);
}

int cnr_compares_source_first(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, find_out);
  return order;
}
