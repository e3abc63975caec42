#define _GNU_SOURCE
#include "TrivisorCSingleStep.h"

#include <TrivisorCWorldSwitch.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <ucontext.h>

enum { trap_flag = 0x100, breakpoint = 0xcc, maximum_places = 64 };

static css_interruption interrupt;
static css_walk walk;
static struct sigaction before;
static __thread void *context __attribute__((tls_model("initial-exec")));
static __thread uint64_t target __attribute__((tls_model("initial-exec")));
static __thread uint32_t remaining __attribute__((tls_model("initial-exec")));

// The breakpoints that stand; one thread goes on at a time.
static struct css_place places[maximum_places];
static uint8_t covered[maximum_places];
static int32_t count;
// Where code may be written to where it runs.
static uint64_t open_base;

// The engine keeps the address of a processor's state in GS's base on its thread.
static struct cws_state *state(void) {
  struct cws_state *own;
  __asm__("mov %%gs:%c1, %0" : "=r"(own) : "i"(CWS_OWN));
  return own;
}

// Where translated code is entered instead of its target, if its first instruction is stepped over: no more than a breakpoint, since
// the stack is the guest's there.
extern const uint8_t css_trap[];
__asm__(".pushsection .text\n.globl css_trap\n.hidden css_trap\ncss_trap: int3\n.popsection");

static void disarm(void) {
  for (int32_t index = 0; index < count; index++) *(volatile uint8_t *)places[index].address = covered[index];
  count = 0;
}

// Breakpoints for code that goes on at `address`. 0 if its first instruction has to be stepped over.
static int arm(uint64_t address, uint32_t instructions) {
  int32_t found = walk(address, instructions, places, maximum_places);
  if (found == CSS_STEP) return 0;
  // All bytes are kept before the first one changes: places are different ones, and may lie side by side.
  for (int32_t index = 0; index < found; index++) covered[index] = *(const uint8_t *)places[index].address;
  for (int32_t index = 0; index < found; index++) *(volatile uint8_t *)places[index].address = breakpoint;
  count = found;
  return 1;
}

// Code goes on where the frame says, for so many instructions.
static void go_on(greg_t *registers, uint32_t instructions) {
  if (instructions == 0) {
    int error = errno;
    instructions = interrupt(context);
    errno = error;
    if (instructions == 0) return;
  }
  remaining = instructions;
  if (!arm((uint64_t)registers[REG_RIP], instructions)) registers[REG_EFL] |= trap_flag;
}

static void handle_breakpoint(int number, siginfo_t *info, void *opaque) {
  greg_t *registers = ((ucontext_t *)opaque)->uc_mcontext.gregs;
  uint64_t address = (uint64_t)registers[REG_RIP] - 1;
  if (address == (uint64_t)css_trap) {
    registers[REG_RIP] = (greg_t)target;
    registers[REG_EFL] |= trap_flag;
    return;
  }
  for (int32_t index = 0; index < count; index++) {
    if (places[index].address != address) continue;
    uint32_t instructions = places[index].remaining;
    disarm();
    registers[REG_RIP] = (greg_t)address;
    go_on(registers, instructions);
    return;
  }
  before.sa_sigaction(number, info, opaque);
}

static void handle(int number, siginfo_t *info, void *opaque) {
  greg_t *registers = ((ucontext_t *)opaque)->uc_mcontext.gregs;
  if (info->si_code != TRAP_TRACE) return handle_breakpoint(number, info, opaque);
  if (context == NULL) {
    before.sa_sigaction(number, info, opaque);
    return;
  }
  uint64_t rip = (uint64_t)registers[REG_RIP];
  if (rip - state()->cache_base >= state()->cache_size) {
    // On the way out; what helpers do is not counted.
    if (rip >= cws_exit_host_flags_address() && rip < cws_call_address()) registers[REG_EFL] &= ~(greg_t)trap_flag;
    return;
  }
  registers[REG_EFL] &= ~(greg_t)trap_flag;
  go_on(registers, remaining - 1);
}

int css_install(css_interruption interruption, css_walk way) {
  interrupt = interruption;
  walk = way;
  struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO | SA_ONSTACK};
  sigemptyset(&action.sa_mask);
  return sigaction(SIGTRAP, &action, &before) == 0 ? 0 : errno;
}

int css_begin(void *new_context, uint32_t instructions) {
  struct cws_state *own = state();
  if (open_base != own->cache_base) {
    if (mprotect((void *)own->cache_base, own->cache_size, PROT_READ | PROT_WRITE | PROT_EXEC) != 0) return errno;
    open_base = own->cache_base;
  }
  context = new_context;
  remaining = instructions;
  target = own->target;
  if (!arm(target, instructions)) own->target = (uint64_t)css_trap;
  return 0;
}

void css_end(void) {
  disarm();
  context = NULL;
}

void css_reset(void) { open_base = 0; }

int css_is_armed(void) { return count != 0; }

uint64_t css_code_base(void) { return state()->cache_base; }
uint64_t css_code_size(void) { return state()->cache_size; }
uint64_t css_state_word(int64_t offset) { return *(const uint64_t *)((const char *)state() + offset); }
int css_is_helper(uint64_t address) { return address == cws_call_address(); }

void css_stay(void) {
  int processor = sched_getcpu();
  if (processor < 0 || processor >= CPU_SETSIZE) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET((size_t)processor, &set);
  sched_setaffinity(0, sizeof set, &set);
}
