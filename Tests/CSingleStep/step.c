#define _GNU_SOURCE
#include "TrivisorCSingleStep.h"

#include <TrivisorCWorldSwitch.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <ucontext.h>

enum { trap_flag = 0x100 };

static css_interruption interrupt;
static struct sigaction before;
static __thread void *context __attribute__((tls_model("initial-exec")));
static __thread uint64_t target __attribute__((tls_model("initial-exec")));
static __thread uint32_t remaining __attribute__((tls_model("initial-exec")));

// The engine keeps the address of a processor's state in GS's base on its thread.
static struct cws_state *state(void) {
  struct cws_state *own;
  __asm__("mov %%gs:%c1, %0" : "=r"(own) : "i"(CWS_OWN));
  return own;
}

// Where translated code is entered instead of its target: no more than a breakpoint, since the stack is the guest's there.
extern const uint8_t css_trap[];
__asm__(".pushsection .text\n.globl css_trap\n.hidden css_trap\ncss_trap: int3\n.popsection");

static void handle(int number, siginfo_t *info, void *opaque) {
  ucontext_t *frame = opaque;
  greg_t *registers = frame->uc_mcontext.gregs;
  uint64_t rip = (uint64_t)registers[REG_RIP];
  if (rip == (uint64_t)css_trap + 1) {
    registers[REG_RIP] = (greg_t)target;
    registers[REG_EFL] |= trap_flag;
    return;
  }
  if (context == NULL || info->si_code != TRAP_TRACE) {
    before.sa_sigaction(number, info, opaque);
    return;
  }
  if (rip - state()->cache_base >= state()->cache_size) {
    // On the way out; what helpers do is not counted.
    if (rip >= cws_exit_host_flags_address() && rip < cws_call_address()) registers[REG_EFL] &= ~(greg_t)trap_flag;
    return;
  }
  if (--remaining != 0) return;
  int error = errno;
  remaining = interrupt(context);
  errno = error;
  if (remaining == 0) registers[REG_EFL] &= ~(greg_t)trap_flag;
}

int css_install(css_interruption interruption) {
  interrupt = interruption;
  struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO | SA_ONSTACK};
  sigemptyset(&action.sa_mask);
  return sigaction(SIGTRAP, &action, &before) == 0 ? 0 : errno;
}

void css_begin(void *new_context, uint32_t count) {
  context = new_context;
  remaining = count;
  target = state()->target;
  state()->target = (uint64_t)css_trap;
}

void css_end(void) { context = NULL; }

void css_stay(void) {
  int processor = sched_getcpu();
  if (processor < 0 || processor >= CPU_SETSIZE) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET((size_t)processor, &set);
  sched_setaffinity(0, sizeof set, &set);
}
