// The host's faults in translated code, and everybody else's signals.
//
// The handler runs on an alternate stack, because RSP is the guest's. SS_AUTODISARM makes the kernel go there whatever
// the guest has put into RSP, even an address inside that stack. It only notes what happened; Swift decides
// what it means for the guest.
//
// Handlers of others know nothing of that: one without SA_ONSTACK would have its frame written where the guest says. So a
// thread that runs translated code blocks every signal, those that glibc keeps for itself included, but for the five that the
// processor raises. What waits is taken where the thread is on its own stack: whenever it has been kicked, while the guest
// sleeps, and at the end. A process with other threads that don't block a signal sees no delay.
//
// Of the five, what is not a fault of translated code goes to the handler that was there before, in the way that this one
// asked for.
#define _GNU_SOURCE
#include "TrivisorCWorldSwitch.h"

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
// Of what is mapped below it and can be neither read nor written.
static const size_t guard_size = 64 << 10;
// The kernel's view of a set of signals: glibc's functions leave out those that it keeps for itself.
static __thread uint64_t mask_before __attribute__((tls_model("initial-exec")));

static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
static struct sigaction previous[_NSIG];

// What the process would do without this file.
static void act_by_default(int number, int was_sent) {
  struct sigaction action = {.sa_handler = SIG_DFL};
  sigaction(number, &action, NULL);
  // A fault comes again when its instruction does.
  if (was_sent) syscall(SYS_tgkill, getpid(), (pid_t)syscall(SYS_gettid), number);
}

// To the handler that was installed before. Signals that it wants blocked are, until this handler returns.
static void hand_on(int number, siginfo_t *info, ucontext_t *context, int was_sent) {
  struct sigaction action = previous[number];
  if (action.sa_handler == SIG_IGN && was_sent) return;
  if (action.sa_handler == SIG_DFL || action.sa_handler == SIG_IGN) {
    act_by_default(number, was_sent);
    return;
  }
  if (action.sa_flags & (int)SA_RESETHAND) previous[number].sa_handler = SIG_DFL;
  sigset_t mask;
  sigorset(&mask, &context->uc_sigmask, &action.sa_mask);
  if (!(action.sa_flags & SA_NODEFER)) sigaddset(&mask, number);
  pthread_sigmask(SIG_SETMASK, &mask, NULL);
  if (action.sa_flags & SA_SIGINFO)
    action.sa_sigaction(number, info, context);
  else
    action.sa_handler(number);
}

static void handle(int number, siginfo_t *info, void *opaque) {
  ucontext_t *context = opaque;
  greg_t *registers = context->uc_mcontext.gregs;
  struct cws_state *state = current;
  uint64_t rip = (uint64_t)registers[REG_RIP];
  // What kill, sigqueue and their like have sent says so in its code; the trap number is then that of an older fault.
  int was_sent = info->si_code <= 0;
  if (was_sent || state == NULL || rip - state->cache_base >= state->cache_size) {
    int error = errno;
    hand_on(number, info, context, was_sent);
    errno = error;
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
  for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
    int number = signals[i];
    if (sigaction(number, NULL, &previous[number]) != 0) install_error = errno;
    struct sigaction action = {
      .sa_sigaction = handle, .sa_flags = SA_SIGINFO | SA_ONSTACK | (previous[number].sa_flags & SA_RESTART)};
    sigemptyset(&action.sa_mask);
    if (sigaction(number, &action, NULL) != 0) install_error = errno;
  }
}

int cws_install_handlers(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, install);
  return install_error;
}

static void set_mask(uint64_t mask, uint64_t *before) {
  syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, before, sizeof mask);
}

static uint64_t all_but_faults(void) {
  uint64_t mask = ~0ull;
  for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) mask &= ~(1ull << (signals[i] - 1));
  return mask;
}

void cws_admit_signals(int are_admitted) {
  set_mask(are_admitted ? mask_before & all_but_faults() : all_but_faults(), NULL);
}

int cws_prepare_thread(struct cws_state *state) {
  if (stack == NULL) {
    unsigned long minimum = getauxval(AT_MINSIGSTKSZ);
    stack_size = ((minimum ? minimum : 4096) + 65536 + 4095) & ~4095ul;
    // A handler that needs more than it has faults at the page below its stack.
    uint8_t *mapping = mmap(NULL, guard_size + stack_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapping == MAP_FAILED) return errno;
    if (mprotect(mapping + guard_size, stack_size, PROT_READ | PROT_WRITE) != 0) {
      const int error = errno;
      munmap(mapping, guard_size + stack_size);
      return error;
    }
    stack = mapping + guard_size;
  }
  stack_t description = {.ss_sp = stack, .ss_size = stack_size, .ss_flags = (int)SS_AUTODISARM};
  if (sigaltstack(&description, NULL) != 0) return errno;
  if (syscall(SYS_arch_prctl, ARCH_SET_GS, state) != 0) return errno;
  set_mask(all_but_faults(), &mask_before);
  current = state;
  return 0;
}

void cws_release_thread(void) {
  current = NULL;
  if (stack == NULL) return;
  set_mask(mask_before, NULL);
  stack_t none = {.ss_flags = SS_DISABLE};
  sigaltstack(&none, NULL);
  munmap((uint8_t *)stack - guard_size, guard_size + stack_size);
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
  // The processor's last instruction and operand pointers are addresses of this process: the guest's are Swift's affair.
  __builtin_memset(state->x87 + 6, 0, 18);
  __asm__ volatile("fninit");
}

void cws_load_environment(const void *area, int size) {
  switch (size) {
  case 14: __asm__ volatile(".byte 0x66\n fldenv (%0)" : : "r"(area) : "memory"); break;
  case 28: __asm__ volatile("fldenv (%0)" : : "r"(area) : "memory"); break;
  case 94: __asm__ volatile(".byte 0x66\n frstor (%0)" : : "r"(area) : "memory"); break;
  default: __asm__ volatile("frstor (%0)" : : "r"(area) : "memory"); break;
  }
}
