#define _GNU_SOURCE
#include "TrivisorCTracedProcess.h"

#include <asm/ldt.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

static int add_segment(const struct ctp_segment *segment) {
  struct user_desc entry;
  memset(&entry, 0, sizeof entry);
  entry.entry_number = segment->index;
  entry.base_addr = segment->base;
  entry.limit = segment->limit;
  entry.contents = segment->contents;
  entry.seg_32bit = segment->is32bit;
  entry.read_exec_only = segment->readExecuteOnly;
  entry.limit_in_pages = segment->inPages;
  entry.seg_not_present = segment->notPresent;
  return (int)syscall(SYS_modify_ldt, 0x11, &entry, sizeof entry);
}

static void be_child(int memory, const struct ctp_range *ranges, int range_count, const struct ctp_segment *segments,
                     int segment_count) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  for (int i = 0; i < range_count; i++) {
    void *place = (void *)ranges[i].base;
    off_t offset = (off_t)(ranges[i].base - ranges[0].base);
    if (mmap(place, ranges[i].size, ranges[i].protection, MAP_SHARED | MAP_FIXED_NOREPLACE, memory, offset) != place)
      _exit(1);
  }
  for (int i = 0; i < segment_count; i++)
    if (add_segment(&segments[i]) != 0) _exit(2);
  // No handler of the parent's may run here.
  for (int number = 1; number < 32; number++) signal(number, SIG_DFL);
  if (ptrace(PTRACE_TRACEME, 0, 0, 0) != 0) _exit(3);
  raise(SIGSTOP);
  _exit(0);
}

int ctp_start(int memory, const struct ctp_range *ranges, int range_count, const struct ctp_segment *segments,
              int segment_count) {
  pid_t process = fork();
  if (process == 0) be_child(memory, ranges, range_count, segments, segment_count);
  if (process < 0) return -1;
  int status;
  if (waitpid(process, &status, 0) != process || !WIFSTOPPED(status)) {
    errno = WIFEXITED(status) ? ENOTSUP : EIO;
    return -1;
  }
  ptrace(PTRACE_SETOPTIONS, process, 0, PTRACE_O_EXITKILL);
  return process;
}

int ctp_run(int process, struct ctp_state *state, struct ctp_result *result) {
  if (process <= 1) return -1;
  struct user_regs_struct r;
  if (ptrace(PTRACE_GETREGS, process, 0, &r) != 0) return -1;
  uint64_t *g = state->general;
  r.rax = g[0], r.rcx = g[1], r.rdx = g[2], r.rbx = g[3], r.rsp = g[4], r.rbp = g[5], r.rsi = g[6], r.rdi = g[7];
  r.r8 = g[8], r.r9 = g[9], r.r10 = g[10], r.r11 = g[11], r.r12 = g[12], r.r13 = g[13], r.r14 = g[14], r.r15 = g[15];
  r.rip = state->rip, r.eflags = state->rflags, r.orig_rax = ~0ull;
  r.es = state->selectors[0], r.cs = state->selectors[1], r.ss = state->selectors[2];
  r.ds = state->selectors[3], r.fs = state->selectors[4], r.gs = state->selectors[5];
  r.fs_base = state->fs_base, r.gs_base = state->gs_base;
  if (ptrace(PTRACE_SETREGS, process, 0, &r) != 0) return -1;
  struct user_fpregs_struct fx;
  memcpy(&fx, state->fx, sizeof fx);
  if (ptrace(PTRACE_SETFPREGS, process, 0, &fx) != 0) return -1;
  if (ptrace(PTRACE_CONT, process, 0, 0) != 0) return -1;
  int status = 0;
  // Some ten seconds at most: a process that runs away is the generator's fault.
  const int limit = 10000;
  for (int i = 0;; i++) {
    pid_t found = waitpid(process, &status, i < limit ? WNOHANG : 0);
    if (found == process) break;
    if (found < 0) return -1;
    if (i >= 100) usleep(i < 200 ? 50 : 1000);
    if (i == limit - 1) kill(process, SIGKILL);
  }
  if (!WIFSTOPPED(status)) return -1;
  siginfo_t information;
  if (ptrace(PTRACE_GETSIGINFO, process, 0, &information) != 0) return -1;
  result->signal = WSTOPSIG(status);
  result->code = information.si_code;
  result->address = (uint64_t)information.si_addr;
  if (ptrace(PTRACE_GETREGS, process, 0, &r) != 0) return -1;
  g[0] = r.rax, g[1] = r.rcx, g[2] = r.rdx, g[3] = r.rbx, g[4] = r.rsp, g[5] = r.rbp, g[6] = r.rsi, g[7] = r.rdi;
  g[8] = r.r8, g[9] = r.r9, g[10] = r.r10, g[11] = r.r11, g[12] = r.r12, g[13] = r.r13, g[14] = r.r14, g[15] = r.r15;
  state->rip = r.rip, state->rflags = r.eflags;
  state->selectors[0] = (uint16_t)r.es, state->selectors[1] = (uint16_t)r.cs, state->selectors[2] = (uint16_t)r.ss;
  state->selectors[3] = (uint16_t)r.ds, state->selectors[4] = (uint16_t)r.fs, state->selectors[5] = (uint16_t)r.gs;
  if (ptrace(PTRACE_GETFPREGS, process, 0, &fx) != 0) return -1;
  memcpy(state->fx, &fx, sizeof fx);
  return 0;
}

void ctp_end(int process) {
  int status;
  // kill() takes 0 and negative numbers for many processes.
  if (process <= 1) return;
  kill(process, SIGKILL);
  waitpid(process, &status, 0);
}
