#define _GNU_SOURCE
#include "TrivisorCNativeRun.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

_Static_assert(offsetof(struct cnr_state, flags) == 128, "enter.S");
_Static_assert(offsetof(struct cnr_state, extended) == 192, "enter.S");

extern void cnr_enter(struct cnr_state *state);
extern void cnr_leave(void);
extern void cnr_signal_entry(int number, siginfo_t *info, void *context);

uint64_t cnr_host_rsp, cnr_host_fs, cnr_host_gs, cnr_target;
volatile uint32_t cnr_active;

static struct cnr_state *result;
static struct sigaction previous[_NSIG];
static uint64_t region_base, region_size;
static volatile uint64_t runs, ticked_run;

static uint64_t read_fs(void) {
  uint64_t value;
  __asm__ volatile("rdfsbase %0" : "=r"(value));
  return value;
}

static uint64_t read_gs(void) {
  uint64_t value;
  __asm__ volatile("rdgsbase %0" : "=r"(value));
  return value;
}

static void chain(int number, siginfo_t *info, void *context) {
  struct sigaction *old = &previous[number];
  if (number == SIGALRM) return;
  if (old->sa_flags & SA_SIGINFO)
    old->sa_sigaction(number, info, context);
  else
    sigaction(number, old, NULL);
}

// Components that the processor holds in their initial state are not written to the frame.
static void copy_extended(uint8_t *target, const uint8_t *source) {
  uint64_t present;
  memcpy(target, source, 832);
  memcpy(&present, source + 512, 8);
  if (!(present & 1)) {
    memset(target, 0, 24);
    target[0] = 0x7f;
    target[1] = 0x03;
    memset(target + 32, 0, 128);
  }
  if (!(present & 2)) memset(target + 160, 0, 256);
  if (!(present & 4)) memset(target + 576, 0, 256);
  memcpy(target + 24, source + 24, 4);
}

// Called with the bases of FS and GS that the code had, and without its alignment flag.
__attribute__((used)) void cnr_handle(int number, siginfo_t *info, void *opaque) {
  ucontext_t *context = opaque;
  greg_t *registers = context->uc_mcontext.gregs;
  if (!cnr_active) {
    chain(number, info, opaque);
    return;
  }
  uint64_t rip = (uint64_t)registers[REG_RIP];
  if (number == SIGALRM) {
    // The second look at the same run. Between the harness's own instructions there is nothing to end.
    if (ticked_run != runs || (rip - region_base >= region_size)) {
      ticked_run = runs;
      return;
    }
  }
  cnr_active = 0;
  struct cnr_state *state = result;
  state->fs_base = read_fs();
  state->gs_base = read_gs();
  __asm__ volatile("wrfsbase %0" : : "r"(cnr_host_fs));
  __asm__ volatile("wrgsbase %0" : : "r"(cnr_host_gs));
  static const int order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
  for (int i = 0; i < 16; i++) state->general[i] = (uint64_t)registers[order[i]];
  state->flags = (uint64_t)registers[REG_EFL];
  state->rip = rip;
  state->vector = number == SIGALRM ? CNR_ENDLESS : number == SIGSYS ? CNR_SYSTEM_CALL : (uint64_t)registers[REG_TRAPNO];
  state->error_code = (uint64_t)registers[REG_ERR];
  state->address = (uint64_t)registers[REG_CR2];
  copy_extended(state->extended, (const uint8_t *)context->uc_mcontext.fpregs);
  registers[REG_RIP] = (greg_t)&cnr_leave;
  registers[REG_RSP] = (greg_t)cnr_host_rsp;
  registers[REG_EFL] = 0x202;
}

void cnr_run(struct cnr_state *state) {
  result = state;
  runs++;
  cnr_enter(state);
}

static int refuse_system_calls(uint32_t base, uint32_t size) {
  struct sock_filter program[] = {
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, instruction_pointer) + 4),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 4),
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, instruction_pointer)),
    BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, base, 0, 2),
    BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, base + size, 1, 0),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog filter = {.len = sizeof program / sizeof *program, .filter = program};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return errno;
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter) != 0) return errno;
  return 0;
}

int cnr_prepare(uint32_t region, uint32_t size) {
  static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGALRM};
  region_base = region;
  region_size = size;
  struct sigaction action = {.sa_sigaction = cnr_signal_entry, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
  sigemptyset(&action.sa_mask);
  // A tick in the middle of the handler would find the wrong bases.
  sigaddset(&action.sa_mask, SIGALRM);
  for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
    if (sigaction(signals[i], &action, &previous[signals[i]]) != 0) return errno;
  // Whoever started this process may have had the signals blocked.
  sigset_t none;
  sigemptyset(&none);
  if (sigprocmask(SIG_SETMASK, &none, NULL) != 0) return errno;
  struct itimerval every = {.it_interval = {.tv_usec = 20000}, .it_value = {.tv_usec = 20000}};
  if (setitimer(ITIMER_REAL, &every, NULL) != 0) return errno;
  return refuse_system_calls(region, size);
}
