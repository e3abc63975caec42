// The host's faults in translated code.
//
// The handler runs on an alternate stack, because RSP is the guest's. SS_AUTODISARM makes the kernel go there whatever
// the guest has put into RSP, even an address inside that stack. It only notes what happened; Swift decides
// what it means for the guest.
#define _GNU_SOURCE
#include "CWorldSwitch.h"

#include <asm/prctl.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1u << 31)
#endif

extern void cws_exit_host_flags(void);
extern void cws_exit_rax_flags(void);
extern void cws_call(void);

uint64_t cws_exit_host_flags_address(void) { return (uint64_t)&cws_exit_host_flags; }
uint64_t cws_exit_rax_flags_address(void) { return (uint64_t)&cws_exit_rax_flags; }
uint64_t cws_call_address(void) { return (uint64_t)&cws_call; }

static __thread struct cws_state *current __attribute__((tls_model("initial-exec")));
static __thread void *stack __attribute__((tls_model("initial-exec")));
static __thread size_t stack_size __attribute__((tls_model("initial-exec")));

static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
static struct sigaction previous[_NSIG];

static void handle(int number, siginfo_t *info, void *opaque) {
  ucontext_t *context = opaque;
  greg_t *registers = context->uc_mcontext.gregs;
  struct cws_state *state = current;
  uint64_t rip = (uint64_t)registers[REG_RIP];
  if (state == NULL || rip - state->cache_base >= state->cache_size) {
    // Not the guest's: whoever had the signal before gets it when the instruction faults again.
    sigaction(number, &previous[number], NULL);
    return;
  }
  state->signal_vector = (uint64_t)registers[REG_TRAPNO];
  state->signal_rip = rip;
  state->signal_flags = (uint64_t)registers[REG_EFL];
  state->signal_address = (uint64_t)info->si_addr;
  registers[REG_RIP] = (greg_t)cws_exit_rax_flags_address();
}

static int install_error;

static void install(void) {
  struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO | SA_ONSTACK};
  sigemptyset(&action.sa_mask);
  for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
    if (sigaction(signals[i], &action, &previous[signals[i]]) != 0) install_error = errno;
}

int cws_install_handlers(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, install);
  return install_error;
}

int cws_prepare_thread(struct cws_state *state) {
  if (stack == NULL) {
    unsigned long minimum = getauxval(AT_MINSIGSTKSZ);
    stack_size = ((minimum ? minimum : 4096) + 16384 + 4095) & ~4095ul;
    void *mapping = mmap(NULL, stack_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapping == MAP_FAILED) return errno;
    stack = mapping;
  }
  stack_t description = {.ss_sp = stack, .ss_size = stack_size, .ss_flags = (int)SS_AUTODISARM};
  if (sigaltstack(&description, NULL) != 0) return errno;
  if (syscall(SYS_arch_prctl, ARCH_SET_GS, state) != 0) return errno;
  current = state;
  return 0;
}

void cws_release_thread(void) {
  current = NULL;
  if (stack == NULL) return;
  stack_t none = {.ss_flags = SS_DISABLE};
  sigaltstack(&none, NULL);
  munmap(stack, stack_size);
  stack = NULL;
}

void cws_load_x87(struct cws_state *state) {
  uint8_t area[512] __attribute__((aligned(16)));
  __asm__ volatile("fxsave64 %0" : "=m"(area));
  // Only the x87 part is the guest's here: the vectors are loaded by cws_enter.
  __builtin_memcpy(area, state->x87, 24);
  __builtin_memcpy(area + 32, state->x87 + 32, 128);
  __asm__ volatile("fxrstor64 %0" : : "m"(area));
}

void cws_save_x87(struct cws_state *state) {
  __asm__ volatile("fxsave64 %0" : "=m"(state->x87));
  // The processor's last instruction and operand pointers are addresses of this process.
  __builtin_memset(state->x87 + 8, 0, 16);
  __asm__ volatile("fninit");
}
