// What 32- and 64-bit programs can do with segment registers, a line each, for tools/check-userland: the same static binary must
// print the same on the host and in a guest. What is not asked is the kernel's segments: under Xen they are at level 3. 32-bit programs have their TLS in GS and try FS, 64-bit ones the other way round.
#define _GNU_SOURCE
#include <asm/ldt.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#ifdef __i386__
#define FREE "fs"
#define LOST_BY_INT "memory"
#define PLACE(registers) registers[REG_EIP]
#else
#define FREE "gs"
#define LOST_BY_INT "memory", "r8", "r9", "r10", "r11"
#define PLACE(registers) registers[REG_RIP]
#endif
#define READ(name) ({ unsigned value; __asm__ volatile("mov %%" name ", %0" : "=r"(value)); value; })
#define LOAD(name, value) ({ __asm__ volatile("mov %0, %%" name : : "r"((unsigned)(value)) : "memory"); })
#define AT(offset, value) ({ __asm__ volatile("mov %%" FREE ":" #offset ", %0" : "=q"(value)); })
#define ATTEMPT(name, ...)                                                                                     \
  do {                                                                                                         \
    is_attempt = 1;                                                                                            \
    if (!sigsetjmp(back, 1)) {                                                                                 \
      __VA_ARGS__;                                                                                             \
      printf("%s: done\n", name);                                                                              \
    } else                                                                                                     \
      printf("%s: signal %d, vector %ld, code %#lx\n", name, seen.signal, seen.vector, seen.code);             \
    is_attempt = 0;                                                                                            \
  } while (0)
#define LOCAL(number) ((number) << 3 | 7)

enum { CODE32 = 0x23, DATA = 0x2b, CODE64 = 0x33 };
// What LAR gives but for bits that are not defined.
enum { RIGHTS = 0xf0ff00 };
enum { BYTES = 0, PAGES, READ_ONLY, DOWN, ABSENT, CODE, EMPTY, OUTSIDE = 5000 };

static sigjmp_buf back;
static volatile int is_attempt;
static struct { int signal; long vector, code; } seen;
static unsigned char *memory;
static unsigned place;
static __thread int mine;

static void caught(int number, siginfo_t *info, void *context) {
  (void)info;
  greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
  seen.signal = number, seen.vector = registers[REG_TRAPNO], seen.code = registers[REG_ERR];
  if (!is_attempt) {
    printf("signal %d, vector %ld, code %#lx at %#lx\n", number, seen.vector, seen.code, (unsigned long)PLACE(registers));
    exit(1);
  }
  siglongjmp(back, 1);
}

// Of 32 bits: Linux refuses others under Xen.
static int local(unsigned number, unsigned limit, unsigned contents, int in_pages) {
  struct user_desc entry = {.entry_number = number, .base_addr = place, .limit = limit, .contents = contents};
  entry.limit_in_pages = in_pages, entry.seg_32bit = 1;
  entry.read_exec_only = number == READ_ONLY, entry.seg_not_present = number == ABSENT;
  return syscall(SYS_modify_ldt, 0x11, &entry, sizeof entry);
}

static void tables(void) {
  printf("modify_ldt: %d", local(BYTES, 0xff, MODIFY_LDT_CONTENTS_DATA, 0));
  printf(" %d", local(PAGES, 0, MODIFY_LDT_CONTENTS_DATA, 1));
  printf(" %d", local(READ_ONLY, 0xff, MODIFY_LDT_CONTENTS_DATA, 0));
  printf(" %d", local(DOWN, 0xff, MODIFY_LDT_CONTENTS_STACK, 0));
  printf(" %d", local(ABSENT, 0xff, MODIFY_LDT_CONTENTS_DATA, 0));
  printf(" %d\n", local(CODE, 0xfff, MODIFY_LDT_CONTENTS_CODE, 0));
}

// Limits and rights count outside of 64-bit code only.
static void uses(void) {
  unsigned char byte;
  LOAD(FREE, LOCAL(BYTES));
  printf("%s: selector %#x", FREE, READ(FREE));
  AT(5, byte), printf(", byte 5 is %u\n", byte);
  ATTEMPT("the last byte", AT(0xff, byte));
  ATTEMPT("behind it", AT(0x100, byte));
  ATTEMPT("across the end", unsigned short word; __asm__ volatile("movw %%" FREE ":0xff, %0" : "=r"(word)));
  ATTEMPT("a store", __asm__ volatile("movb $1, %" FREE ":4"));
  LOAD(FREE, LOCAL(PAGES));
  ATTEMPT("a page's last byte", AT(0xfff, byte); printf("%u, ", byte));
  ATTEMPT("behind the page", AT(0x1000, byte));
  LOAD(FREE, LOCAL(READ_ONLY));
  ATTEMPT("a load of what is read-only", AT(5, byte));
  ATTEMPT("a store to it", __asm__ volatile("movb $1, %" FREE ":4"));
  LOAD(FREE, LOCAL(DOWN));
  ATTEMPT("below an expand-down segment", AT(0xff, byte));
  ATTEMPT("in it", AT(0x100, byte); printf("%u, ", byte));
  LOAD(FREE, 0);
}

static void loads(void) {
  unsigned char byte;
  ATTEMPT("what is not present", LOAD(FREE, LOCAL(ABSENT)));
  ATTEMPT("code", LOAD(FREE, LOCAL(CODE)); AT(5, byte); printf("%u, ", byte));
  ATTEMPT("an empty entry", LOAD(FREE, LOCAL(EMPTY)));
  ATTEMPT("outside of the table", LOAD(FREE, LOCAL(OUTSIDE)));
  for (volatile unsigned number = 0; number < 4; number++)
    ATTEMPT("a null selector", LOAD(FREE, number); unsigned found = READ(FREE); printf("%u, ", found));
  ATTEMPT("its use", LOAD(FREE, 0); AT(5, byte));
  LOAD(FREE, 0);
}

static void questions(void) {
  static const unsigned selectors[] = {
    CODE32, DATA, CODE64, LOCAL(BYTES), LOCAL(PAGES), LOCAL(READ_ONLY), LOCAL(DOWN), LOCAL(ABSENT), LOCAL(CODE),
    LOCAL(EMPTY), LOCAL(OUTSIDE), 0,
  };
  for (unsigned number = 0; number < sizeof selectors / sizeof *selectors; number++) {
    unsigned rights = 0, limit = 0;
    unsigned char is_known, has_limit, is_readable, is_writable;
    __asm__ volatile("lar %4, %0; setz %1; lsl %4, %2; setz %3" : "+&r"(rights), "=&q"(is_known), "+&r"(limit),
                     "=&q"(has_limit) : "r"(selectors[number]));
    __asm__ volatile("verr %w2; setz %0; verw %w2; setz %1" : "=&q"(is_readable), "=&q"(is_writable)
                     : "r"(selectors[number]));
    printf("%#x: lar %d %#x, lsl %d %#x, verr %d, verw %d\n", selectors[number], is_known, rights & RIGHTS, has_limit, limit,
           is_readable, is_writable);
  }
}

static void *thread(void *count) {
  for (int round = 0; round < (int)(intptr_t)count; round++) {
    mine += 2;
    if (round % 50 == 0) usleep(100);
  }
  return (void *)(intptr_t)mine;
}

static void threads(void) {
  pthread_t others[4];
  intptr_t sum = 0;
  for (int number = 0; number < 4; number++) pthread_create(&others[number], NULL, thread, (void *)(intptr_t)(100 * number));
  for (int number = 0; number < 4; number++) {
    void *result;
    pthread_join(others[number], &result);
    sum += (intptr_t)result;
  }
  printf("threads: %ld, and here %d\n", (long)sum, mine);
}

// The other program's registers; those of a 64-bit one don't have to be flat.
static void traced(void) {
  fflush(stdout);
  pid_t child = fork();
  if (!child) {
    LOAD(FREE, LOCAL(BYTES));
    ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    syscall(SYS_kill, getpid(), SIGSTOP);
    unsigned char byte;
    AT(5, byte);
    _exit(READ(FREE) == LOCAL(PAGES) ? byte : 99);
  }
  int status;
  waitpid(child, &status, 0);
  struct user_regs_struct registers;
  ptrace(PTRACE_GETREGS, child, NULL, &registers);
#ifdef __i386__
  printf("traced: cs %#lx, ss %#lx, ds %#lx, fs %#lx", registers.xcs, registers.xss, registers.xds, registers.xfs);
  registers.xfs = LOCAL(PAGES);
#else
  printf("traced: cs %#llx, ss %#llx, ds %#llx, gs %#llx", registers.cs, registers.ss, registers.ds, registers.gs);
  registers.gs = LOCAL(PAGES);
#endif
  ptrace(PTRACE_SETREGS, child, NULL, &registers);
  ptrace(PTRACE_CONT, child, NULL, NULL);
  waitpid(child, &status, 0);
  printf(", goes on and ends with %#x\n", status);
}

// What a handler finds, and what is there behind it.
static volatile unsigned in_handler;
static void asked(int number) { (void)number, in_handler = READ(FREE), LOAD(FREE, 0); }
static void signals(void) {
  signal(SIGUSR1, asked);
  LOAD(FREE, LOCAL(BYTES));
  raise(SIGUSR1);
#ifdef __i386__
  printf("a handler found %#x, and behind it is %#x\n", in_handler, READ(FREE));
#else
  printf("a handler found %#x\n", in_handler);
#endif
  LOAD(FREE, 0);
}

struct far { unsigned offset; unsigned short selector; } __attribute__((packed));
static struct far target;

#ifdef __i386__
static void width(void) {
  unsigned value;
  printf("at the start: cs %d, ds %#x, es %#x, ss %d\n", READ("cs") == CODE32, READ("ds"), READ("es"), READ("ss") == DATA);
  ATTEMPT("a null DS",
          __asm__ volatile("push %%ds; mov %1, %%ds; mov (%2), %0; pop %%ds" : "=r"(value) : "r"(0), "r"(memory)));
  LOAD("ds", DATA), LOAD("es", DATA);
  __asm__ volatile("push %%ds; push %1; pop %%ds; movl 0x20, %0; pop %%ds" : "=&r"(value) : "r"(LOCAL(BYTES)));
  printf("POP DS: %#x\n", value);
  struct far far = {0x30, LOCAL(BYTES)};
  __asm__ volatile("les %1, %0; movl %%es:(%0), %0; push %2; pop %%es" : "=&r"(value) : "m"(far), "r"(DATA));
  printf("LES: %#x\n", value);
  __asm__ volatile("push %%es; push %1; pop %%es; mov $0x40, %%edi; mov $0x5a, %%al; stosb; pop %%es"
                   : "=m"(*(char(*)[4096])memory) : "r"(LOCAL(BYTES)) : "eax", "edi");
  printf("STOSB: %#x\n", memory[0x40]);
  struct user_desc entry = {.entry_number = -1, .base_addr = place, .limit = 0xfff, .seg_32bit = 1, .useable = 1};
  printf("set_thread_area: %ld", syscall(SYS_set_thread_area, &entry));
  LOAD("fs", entry.entry_number << 3 | 3);
  __asm__ volatile("movl %%fs:0x80, %0" : "=r"(value));
  printf(", %#x", value);
  usleep(10000);
  __asm__ volatile("movl %%fs:0x80, %0" : "=r"(value));
  printf(", and behind a sleep %#x\n", value);
  entry.base_addr += 4;
  printf("set_thread_area: %ld", syscall(SYS_set_thread_area, &entry));
  __asm__ volatile("movl %%fs:0x80, %0" : "=r"(value));
  printf(", %#x\n", value);
  LOAD("fs", 0);
  static const unsigned char code[] = {0x8c, 0xcb, 0x2e, 0xa1, 0x00, 0x03, 0, 0, 0xcb};  // mov %cs, %ebx; mov %cs:0x300, %eax; lret
  memcpy(memory + 0x100, code, sizeof code);
  target.offset = 0x100, target.selector = LOCAL(CODE);
  unsigned found, selector;
  __asm__ volatile("lcall *%2" : "=&a"(found), "=&b"(selector) : "m"(target) : "memory");
  printf("code with a base: %#x in %#x\n", found, selector);
  memory[0xffe] = 0x90, memory[0xfff] = 0x90;
  target.offset = 0xffe;
  ATTEMPT("code that runs beyond the limit", __asm__ volatile("lcall *%0" : : "m"(target)));
  target.offset = 0x1000;
  ATTEMPT("a far call beyond the limit", __asm__ volatile("lcall *%0" : : "m"(target)));
  ATTEMPT("INTO", __asm__ volatile("mov $0x7fffffff, %%eax; add $1, %%eax; into" : : : "eax"));
  int bounds[2] = {1, 2};
  ATTEMPT("BOUND", __asm__ volatile("bound %0, %1" : : "r"(5), "m"(bounds)));
  struct far stack = {0, DATA};
  __asm__ volatile("mov %%esp, %0; lss %0, %%esp" : "+m"(stack));
  printf("LSS: %d\n", READ("ss") == DATA);
}
#else
static void width(void) {
  unsigned long value;
  unsigned data, code;
  printf("at the start: ds %#x, es %#x, gs %#x\n", READ("ds"), READ("es"), READ("gs"));
  static const unsigned char code32[] = {0x8c, 0xd8, 0x8c, 0xcb, 0xcb};  // mov %ds, %eax; mov %cs, %ebx; lret
  memcpy(memory + 0x200, code32, sizeof code32);
  target.offset = place + 0x200, target.selector = CODE32;
  unsigned char *stack = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
  __asm__ volatile("mov %%rsp, %%r12; lea 4000(%3), %%rsp; lcall *%2; mov %%r12, %%rsp"
                   : "=&a"(data), "=&b"(code) : "m"(target), "r"(stack) : "r12", "memory");
  printf("32-bit code: cs %#x, ds %#x\n", code, data);
  LOAD("ds", DATA), LOAD("es", LOCAL(BYTES)), LOAD("gs", DATA);
  usleep(10000);
  printf("behind a sleep: ds %#x, es %#x, gs %#x\n", READ("ds"), READ("es"), READ("gs"));
  LOAD("ds", 0), LOAD("es", 0), LOAD("gs", 0);
  enum { SET_GS = 0x1001 };
  printf("arch_prctl: %ld", syscall(SYS_arch_prctl, SET_GS, memory + 8));
  for (int round = 0; round < 2; round++) {
    __asm__ volatile("mov %%gs:0, %0" : "=r"(value));
    printf(", %#lx by selector %u", value, READ("gs"));
    usleep(10000);
  }
  puts("");
  LOAD("gs", LOCAL(BYTES));
  usleep(10000);
  __asm__ volatile("mov %%gs:8, %0" : "=r"(value));
  printf("a selector with a base, behind a sleep: %#lx\n", value);
  LOAD("gs", 0);
}
#endif

// By the 32-bit interface, which 64-bit code can use, too.
static void calls(void) {
  enum { GETPID = 20 };
  long found;
  __asm__ volatile("int $0x80" : "=a"(found) : "a"(GETPID) : LOST_BY_INT);
  printf("INT 80h: %d\n", found == getpid());
  ATTEMPT("INT3", __asm__ volatile("int3"));
  ATTEMPT("INT 3", __asm__ volatile(".byte 0xcd, 3"));
  ATTEMPT("INT 90h", __asm__ volatile("int $0x90"));
}

int main(void) {
  stack_t stack = {.ss_sp = malloc(1 << 16), .ss_size = 1 << 16};
  sigaltstack(&stack, NULL);
  struct sigaction action = {.sa_sigaction = caught, .sa_flags = SA_SIGINFO | SA_ONSTACK};
  static const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE};
  for (unsigned number = 0; number < sizeof faults / sizeof *faults; number++) sigaction(faults[number], &action, NULL);
  memory = mmap((void *)0x10000000, 8192, PROT_READ | PROT_WRITE | PROT_EXEC,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  place = (unsigned)(uintptr_t)memory;
  for (int offset = 0; offset < 8192; offset++) memory[offset] = offset * 7;
  tables();
  uses();
  loads();
  questions();
  signals();
  width();
  threads();
  traced();
  calls();
  return 0;
}
