// What several processors may see of each other's stores, and what they may not: run on a processor, under KVM and under the
// other techniques, it prints one line a test, and ends with 1 if something was seen that x86 forbids.
//
//     litmus [ROUNDS [TEST...]]
//
// Sources: Intel SDM vol. 3, 9.2.3 (the names of the tests are those of the literature: SB, MP, LB, IRIW, …) and 9.1.3 (code that
// is changed); AMD64 APM vol. 2, 7.2 and 7.6.1.

#define _GNU_SOURCE
#include <errno.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

// Threads meet before and behind so many rounds. In between they drift apart and past each other.
enum { maximum_threads = 4, batch = 1024 };

// Each word in a line of its own.
struct word {
  _Alignas(64) volatile uint64_t value;
};

struct test {
  const char *name;
  int threads;
  // Makes memory what it is to be before a batch.
  void (*prepare)(void);
  void (*run)(int thread, unsigned index);
  // Whether the round's outcome is forbidden; may count what is allowed and rare.
  bool (*is_forbidden)(unsigned index);
};

static struct word x[batch], y[batch];
// What threads have loaded, a line for each thread at a time.
static _Alignas(64) uint64_t results[maximum_threads][2][batch];
static unsigned long rare;

// What is stored in this batch. What was there before, of whichever batch, counts as 0; so nothing has to be cleared.
static _Alignas(64) uint64_t new_value;
static void begin_batch(void) { new_value++; }
static void begin_marks(void) { memset(results, 0, sizeof results); }

// Whether a thread has loaded what is stored in this batch.
static bool saw(int thread, int which, unsigned index) { return results[thread][which][index] == new_value; }

static uint64_t load(struct word *word) {
  uint64_t value;
  __asm__ volatile("mov %1, %0" : "=r"(value) : "m"(word->value) : "memory");
  return value;
}
static void store(struct word *word, uint64_t value) {
  __asm__ volatile("mov %1, %0" : "=m"(word->value) : "r"(value) : "memory");
}

// Store buffering: both may read 0, unless a fence or a locked operation is in between.
static void sb(int thread, unsigned index) {
  store(thread ? &y[index] : &x[index], new_value);
  results[thread][0][index] = load(thread ? &x[index] : &y[index]);
}
static bool both_zero(unsigned index) { return !saw(0, 0, index) && !saw(1, 0, index); }
static bool sb_outcome(unsigned index) {
  rare += both_zero(index);
  return false;
}
static void sb_fence(int thread, unsigned index) {
  store(thread ? &y[index] : &x[index], new_value);
  __asm__ volatile("mfence" ::: "memory");
  results[thread][0][index] = load(thread ? &x[index] : &y[index]);
}
static void sb_locked(int thread, unsigned index) {
  uint64_t value = new_value;
  struct word *own = thread ? &y[index] : &x[index];
  __asm__ volatile("xchg %0, %1" : "+r"(value), "+m"(own->value)::"memory");
  results[thread][0][index] = load(thread ? &x[index] : &y[index]);
}

// Message passing: who sees the flag sees the message.
static void mp(int thread, unsigned index) {
  if (thread == 0) {
    store(&x[index], new_value);
    store(&y[index], new_value);
  } else {
    results[1][0][index] = load(&y[index]);
    results[1][1][index] = load(&x[index]);
  }
}
static bool mp_outcome(unsigned index) {
  rare += !saw(1, 0, index) && saw(1, 1, index);
  return saw(1, 0, index) && !saw(1, 1, index);
}

// Load buffering: loads are not passed by later stores.
static void lb(int thread, unsigned index) {
  results[thread][0][index] = load(thread ? &y[index] : &x[index]);
  store(thread ? &x[index] : &y[index], new_value);
}
static bool lb_outcome(unsigned index) { return saw(0, 0, index) && saw(1, 0, index); }

// Independent reads of independent writes: all see the two stores in one order.
static void iriw(int thread, unsigned index) {
  switch (thread) {
  case 0: store(&x[index], new_value); break;
  case 1: store(&y[index], new_value); break;
  case 2:
    results[2][0][index] = load(&x[index]);
    results[2][1][index] = load(&y[index]);
    break;
  default:
    results[3][0][index] = load(&y[index]);
    results[3][1][index] = load(&x[index]);
  }
}
static bool iriw_outcome(unsigned index) {
  bool first = saw(2, 0, index) && !saw(2, 1, index), second = saw(3, 0, index) && !saw(3, 1, index);
  rare += first || second;
  return first && second;
}

// Locked operations of every width lose nothing: on one word, on one that crosses two lines, and on one that crosses two pages.
static uint8_t *counters;
enum { line_edge = 64 - 2, page_edge = 4096 - 3, code_page = 8192 };
static void locked_prepare(void) { memset(counters, 0, 8192); }
static void add_locked(uint8_t *place) {
  __asm__ volatile("lock addq $1, %0" : "+m"(*(uint64_t *)place)::"memory", "cc");
}
static void locked(int thread, unsigned index) {
  (void)thread;
  (void)index;
  add_locked(counters);
  uint64_t one = 1;
  __asm__ volatile("lock xaddq %0, %1" : "+r"(one), "+m"(*(uint64_t *)(counters + 16))::"memory", "cc");
  uint64_t old = *(volatile uint64_t *)(counters + 32);
  while (!__atomic_compare_exchange_n((uint64_t *)(counters + 32), &old, old + 1, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {}
  __asm__ volatile("lock incl %0" : "+m"(*(uint32_t *)(counters + line_edge))::"memory", "cc");
  __asm__ volatile("lock incw %0" : "+m"(*(uint16_t *)(counters + 128))::"memory", "cc");
  if (index % 16 == 0) add_locked(counters + page_edge);
}
static uint64_t quad(unsigned offset) {
  uint64_t value;
  memcpy(&value, counters + offset, 8);
  return value;
}
static bool locked_outcome(unsigned index) {
  if (index != batch - 1) return false;
  uint32_t edge;
  memcpy(&edge, counters + line_edge, 4);
  uint16_t word;
  memcpy(&word, counters + 128, 2);
  return quad(0) != 2 * batch || quad(16) != 2 * batch || quad(32) != 2 * batch || edge != 2 * batch || word != 2 * batch ||
         quad(page_edge) != 2 * batch / 16;
}

// CMPXCHG16B: the halves belong together.
static _Alignas(16) struct {
  uint64_t low, high;
} pair;
static void pair_prepare(void) {
  pair.low = pair.high = 0;
  begin_marks();
}
static void pair_run(int thread, unsigned index) {
  (void)thread;
  uint64_t low = __atomic_load_n(&pair.low, __ATOMIC_RELAXED), high = __atomic_load_n(&pair.high, __ATOMIC_RELAXED);
  bool done;
  do {
    __asm__ volatile("lock cmpxchg16b %1"
                     : "=@ccz"(done), "+m"(pair), "+a"(low), "+d"(high)
                     : "b"(low + 1), "c"(high + 2)
                     : "memory");
    if (!done && high != 2 * low) results[thread][0][index] = 1;
  } while (!done);
}
static bool pair_outcome(unsigned index) {
  if (results[0][0][index] || results[1][0][index]) return true;
  return index == batch - 1 && (pair.low != 2 * batch || pair.high != 4 * batch);
}

// Locked operations on a page that holds code which is run meanwhile.
static uint8_t *writable, *executable;
static void make_code(void) {
  int file = memfd_create("litmus", 0);
  if (file < 0 || ftruncate(file, 4 * 4096) != 0) exit(2);
  writable = mmap(NULL, 4 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  executable = mmap(NULL, 4 * 4096, PROT_READ | PROT_EXEC, MAP_SHARED, file, 0);
  if (writable == MAP_FAILED || executable == MAP_FAILED) exit(2);
}
static void write_function(uint8_t *place, uint32_t value) {
  // mov $value, %eax; ret
  place[0] = 0xb8;
  memcpy(place + 1, &value, 4);
  place[5] = 0xc3;
}
static uint32_t call(uint8_t *place) { return ((uint32_t(*)(void))place)(); }
static void code_counter_prepare(void) {
  begin_marks();
  write_function(writable, 7);
  memset(writable + 2048, 0, 64);
}
static void code_counter(int thread, unsigned index) {
  add_locked(writable + 2048);
  if (call(executable) != 7) results[thread][0][index] = 1;
  __asm__ volatile("lock orq $1, %0" : "+m"(*(uint64_t *)(writable + 2056))::"memory", "cc");
}
static bool code_counter_outcome(unsigned index) {
  uint64_t value;
  memcpy(&value, writable + 2048, 8);
  return results[0][0][index] || results[1][0][index] || (index == batch - 1 && value != 2 * batch);
}

// Code that another processor changes, by a store to its operand through another mapping. Without more it may be the old
// one; but who has seen the flag behind the store, and made its processor forget what it had fetched, runs the new one.
static struct word flag;
static void code_prepare(void) {
  begin_marks();
  write_function(writable + 4096, 0);
  flag.value = 0;
}
static void serialize(void) {
  uint32_t a = 0, b, c = 0, d;
  __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d)::"memory");
}
static void code_change(int thread, unsigned index) {
  if (thread == 0) {
    __atomic_store_n((uint32_t *)(writable + 4096 + 1), index + 1, __ATOMIC_RELEASE);
    store(&flag, index + 1);
  } else {
    uint64_t seen = load(&flag);
    serialize();
    uint32_t got = call(executable + 4096);
    if (got < seen) results[1][0][index] = 1;
  }
}
static bool code_outcome(unsigned index) { return results[1][0][index]; }

// The same with the other processors made to forget by an interrupt that the kernel sends.
static void code_barrier(int thread, unsigned index) {
  if (thread == 0) {
    __atomic_store_n((uint32_t *)(writable + 4096 + 1), index + 1, __ATOMIC_RELEASE);
    if (index % 8 == 0) syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0);
    if (index % 8 == 0) store(&flag, index + 1);
  } else {
    uint64_t seen = load(&flag);
    uint32_t got = call(executable + 4096);
    if (got < seen) results[1][0][index] = 1;
  }
}

// A page that is taken away from a mapping while the other one writes to it: nothing arrives after the shoot-down.
static uint8_t *stage;
static int pages_file;
static void shoot_prepare(void) {
  begin_marks();
  if (pages_file == 0) {
    pages_file = memfd_create("pages", 0);
    if (pages_file < 0 || ftruncate(pages_file, 8192) != 0) exit(2);
  }
  stage = mmap(stage, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | (stage ? MAP_FIXED : 0), pages_file, 0);
  if (stage == MAP_FAILED) exit(2);
}
static void shoot(int thread, unsigned index) {
  if (thread == 0) {
    // To the other page, and the first one is read through a mapping of its own: it must stand still.
    static uint8_t *view;
    if (!view) view = mmap(NULL, 8192, PROT_READ, MAP_SHARED, pages_file, 0);
    if (index % 8 == 0) {
      off_t other = index % 16 == 0 ? 4096 : 0;
      mmap(stage, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, pages_file, other);
      uint64_t first = *(volatile uint64_t *)(view + 4096 - other);
      for (int i = 0; i < 50; i++)
        if (*(volatile uint64_t *)(view + 4096 - other) != first) results[0][0][index] = 1;
    }
  } else {
    for (int i = 0; i < 20; i++) (*(volatile uint64_t *)stage)++;
  }
}
static bool shoot_outcome(unsigned index) { return results[0][0][index]; }

static const struct test tests[] = {
    {"SB", 2, begin_batch, sb, sb_outcome},
    {"SB+mfence", 2, begin_batch, sb_fence, both_zero},
    {"SB+xchg", 2, begin_batch, sb_locked, both_zero},
    {"MP", 2, begin_batch, mp, mp_outcome},
    {"LB", 2, begin_batch, lb, lb_outcome},
    {"IRIW", 4, begin_batch, iriw, iriw_outcome},
    {"locked", 2, locked_prepare, locked, locked_outcome},
    {"cmpxchg16b", 2, pair_prepare, pair_run, pair_outcome},
    {"locked-on-code-page", 2, code_counter_prepare, code_counter, code_counter_outcome},
    {"changed-code", 2, code_prepare, code_change, code_outcome},
    {"changed-code-by-interrupt", 2, code_prepare, code_barrier, code_outcome},
    {"shoot-down", 2, shoot_prepare, shoot, shoot_outcome},
};

static const struct test *current;
static unsigned long rounds;
static _Alignas(64) atomic_ulong arrived;
static _Alignas(64) atomic_ulong generation;
static unsigned long forbidden;

// All threads meet; the last one to come does `body`.
static void meet(int threads, void (*body)(void)) {
  unsigned long own = atomic_load(&generation);
  if (atomic_fetch_add(&arrived, 1) == (unsigned long)threads - 1) {
    atomic_store(&arrived, 0);
    body();
    atomic_fetch_add(&generation, 1);
    return;
  }
  for (unsigned turns = 0; atomic_load(&generation) == own; turns++) {
    if (turns % 256 == 255)
      sched_yield();
    else
      __builtin_ia32_pause();
  }
}
static void nothing(void) {}
static void prepare_all(void) { current->prepare(); }
static void judge_all(void) {
  for (unsigned index = 0; index < batch; index++) forbidden += current->is_forbidden(index);
}

static void *body(void *argument) {
  int thread = (int)(intptr_t)argument;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(thread % sysconf(_SC_NPROCESSORS_ONLN), &set);
  sched_setaffinity(0, sizeof set, &set);
  int threads = current->threads;
  uint64_t chance = 0x9e3779b97f4a7c15 * (unsigned)(thread + 1);
  for (unsigned long round = 0; round < rounds; round += batch) {
    meet(threads, prepare_all);
    // Who begins first, and by how much, is another thing each time.
    chance = chance * 6364136223846793005 + 1442695040888963407;
    for (uint64_t left = chance >> 58; left != 0; left--) __asm__ volatile("");
    for (unsigned index = 0; index < batch; index++) current->run(thread, index);
    meet(threads, judge_all);
  }
  meet(threads, nothing);
  return NULL;
}

int main(int count, char **arguments) {
  rounds = count > 1 ? strtoul(arguments[1], NULL, 10) : 100000;
  counters = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (counters == MAP_FAILED) return 2;
  make_code();
  syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0);
  int status = 0;
  for (unsigned number = 0; number < sizeof tests / sizeof *tests; number++) {
    bool is_wanted = count <= 2;
    for (int index = 2; index < count; index++) is_wanted |= strcmp(arguments[index], tests[number].name) == 0;
    if (!is_wanted) continue;
    current = &tests[number];
    rare = forbidden = 0;
    pthread_t threads[maximum_threads];
    for (int thread = 0; thread < current->threads; thread++)
      if (pthread_create(&threads[thread], NULL, body, (void *)(intptr_t)thread) != 0) return 2;
    for (int thread = 0; thread < current->threads; thread++) pthread_join(threads[thread], NULL);
    printf("%-26s %lu rounds, forbidden %lu, allowed and rare %lu\n", current->name, rounds, forbidden, rare);
    fflush(stdout);
    if (forbidden) status = 1;
  }
  return status;
}
