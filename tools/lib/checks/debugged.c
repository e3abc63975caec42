// The first process of a Linux guest that is debugged (tools/check-gdb): rounds of what a debugger steps over, with places that
// it knows by name, and a look at whether anything went wrong. Then the kernel is made to panic.
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ROUNDS = 30, STEPS = 11 };

volatile int counter;
static volatile int traps, faults, seen_flags;
static char source[] = "thirty-two bytes, all in one go.";
static char target[sizeof source];

extern char behind_faulting_load[];

static void trapped(int number) { (void)number, traps++; }

static void faulted(int number, siginfo_t *information, void *context) {
  (void)number, (void)information;
  faults++;
  ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] = (greg_t)(uintptr_t)behind_faulting_load;
}

#define PLACE(name) ".globl " #name "\n" #name ":\n"

static long call(void) {
  long result;
  __asm__ volatile(PLACE(user_call) "syscall\n" PLACE(behind_user_call) "nop" : "=a"(result) : "a"(SYS_getppid)
                   : "rcx", "r11", "memory");
  return result;
}

static void move(void) {
  void *to = target;
  const void *from = source;
  long count = sizeof source;
  __asm__ volatile(PLACE(user_moves) "rep movsb\n" PLACE(behind_user_moves) "nop" : "+D"(to), "+S"(from), "+c"(count)
                   : : "memory");
}

static void fault(void) {
  __asm__ volatile(PLACE(faulting_load) "movl (%0), %%eax\n" PLACE(behind_faulting_load) "nop" : : "r"(8L) : "rax", "memory");
}

static void step(void) {
  __asm__ volatile(
      "lea -128(%%rsp), %%rsp; pushfq; orl $0x100, (%%rsp); popfq\n" PLACE(own_steps)
      "nop; nop; nop; nop; nop; nop; nop; nop\n"
      "pushfq; andl $~0x100, (%%rsp); popfq; lea 128(%%rsp), %%rsp" : : : "memory", "cc");
}

static void look(void) {
  long flags;
  __asm__ volatile("lea -128(%%rsp), %%rsp\n" PLACE(push_flags) "pushfq\n" PLACE(behind_push_flags) "pop %0; lea 128(%%rsp), %%rsp"
                   : "=r"(flags) : : "memory");
  seen_flags |= flags & 0x100;
}

int main(void) {
  struct sigaction action = {.sa_handler = trapped};
  sigaction(SIGTRAP, &action, NULL);
  action = (struct sigaction){.sa_sigaction = faulted, .sa_flags = SA_SIGINFO};
  sigaction(SIGSEGV, &action, NULL);
  for (int round = 0; round < ROUNDS; round++) {
    memset(target, 0, sizeof target);
    call();
    move();
    fault();
    step();
    look();
    counter++;
    if (memcmp(source, target, sizeof source)) printf("debugged: round %d moved something else\n", round);
  }
  printf("debugged: %d rounds, %d of %d steps, %d faults, trap flag seen: %s\n", counter, traps, ROUNDS * STEPS, faults,
         seen_flags ? "yes" : "no");
  fflush(stdout);
  mkdir("/proc", 0755);
  mount("proc", "/proc", "proc", 0, NULL);
  int trigger = open("/proc/sysrq-trigger", O_WRONLY);
  if (trigger < 0 || write(trigger, "c", 1) != 1) puts("debugged: no panic can be had");
  return 0;
}
