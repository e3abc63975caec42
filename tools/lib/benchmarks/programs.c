// Programs for `tools/bench programs`: the same static binary natively, in a guest under QEMU TCG and in a guest of ours.
// Prints a line each: name, seconds, checksum. Each program's work is fixed, so times can be divided by each other.
#define _GNU_SOURCE
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec + time.tv_nsec * 1e-9;
}

static uint32_t rotate(uint32_t x, int n) { return x >> n | x << (32 - n); }

// FIPS 180-4; the constants are the fractional parts of cube roots of primes, worked out at start.
static uint32_t constants[64];
static void find_constants(void) {
  int found = 0;
  for (int candidate = 2; found < 64; candidate++) {
    int prime = 1;
    for (int d = 2; d * d <= candidate; d++) prime &= candidate % d != 0;
    if (!prime) continue;
    // floor(cbrt(candidate) * 2^32), by bisection over 64-bit fixed point with 128-bit products.
    unsigned __int128 target = (unsigned __int128)candidate << 96;
    uint64_t low = 0, high = 1ull << 35;
    while (high - low > 1) {
      uint64_t middle = (low + high) / 2;
      if ((unsigned __int128)middle * middle * middle <= target) low = middle; else high = middle;
    }
    constants[found++] = (uint32_t)low;
  }
}

static uint64_t sha256(void) {
  find_constants();
  uint32_t state[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  uint32_t w[64];
  for (uint32_t block = 0; block < 250000; block++) {
    for (int i = 0; i < 16; i++) w[i] = block * 2654435761u + i;
    for (int i = 16; i < 64; i++) {
      uint32_t a = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3;
      uint32_t b = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10;
      w[i] = w[i - 16] + a + w[i - 7] + b;
    }
    uint32_t v[8];
    memcpy(v, state, sizeof v);
    for (int i = 0; i < 64; i++) {
      uint32_t s1 = rotate(v[4], 6) ^ rotate(v[4], 11) ^ rotate(v[4], 25);
      uint32_t t1 = v[7] + s1 + ((v[4] & v[5]) ^ (~v[4] & v[6])) + constants[i] + w[i];
      uint32_t s0 = rotate(v[0], 2) ^ rotate(v[0], 13) ^ rotate(v[0], 22);
      uint32_t t2 = s0 + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
      memmove(v + 1, v, 7 * sizeof *v);
      v[4] += t1;
      v[0] = t1 + t2;
    }
    for (int i = 0; i < 8; i++) state[i] += v[i];
  }
  return (uint64_t)state[0] << 32 | state[7];
}

static uint64_t sieve(void) {
  enum { size = 8 << 20 };
  uint8_t *composite = calloc(size, 1);
  uint64_t sum = 0;
  for (int round = 0; round < 6; round++) {
    memset(composite, 0, size);
    for (uint32_t i = 2; i * i < size; i++)
      if (!composite[i])
        for (uint32_t j = i * i; j < size; j += i) composite[j] = 1;
    for (uint32_t i = 2; i < size; i++) sum += composite[i] ? 0 : i;
  }
  free(composite);
  return sum;
}

static uint64_t pointer_chase(void) {
  enum { count = (32 << 20) / 8 };
  uint64_t *next = malloc(count * 8);
  for (uint64_t i = 0; i < count; i++) next[i] = i;
  uint64_t seed = 1;
  // Sattolo's algorithm: one cycle through all.
  for (uint64_t i = count - 1; i > 0; i--) {
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    uint64_t j = (seed >> 33) % i, held = next[i];
    next[i] = next[j];
    next[j] = held;
  }
  uint64_t place = 0;
  for (int i = 0; i < 2000000; i++) place = next[place];
  free(next);
  return place;
}

static uint64_t hash_table(void) {
  enum { slots = 1 << 20 };
  struct { uint64_t key, value; } *table = calloc(slots, 16);
  uint64_t seed = 7, sum = 0;
  for (int i = 0; i < 6000000; i++) {
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    uint64_t key = (seed >> 40) | 1, place = key * 0x9e3779b97f4a7c15ull >> 44;
    while (table[place].key && table[place].key != key) place = (place + 1) & (slots - 1);
    if (!table[place].key && i > 600000) continue;
    table[place].key = key;
    sum += ++table[place].value;
  }
  free(table);
  return sum;
}

static uint64_t matmul(void) {
  enum { n = 300 };
  double *a = malloc(n * n * 8), *b = malloc(n * n * 8), *c = calloc(n * n, 8);
  for (int i = 0; i < n * n; i++) a[i] = i % 7 + 0.5, b[i] = i % 5 - 1.25;
  for (int round = 0; round < 12; round++)
    for (int i = 0; i < n; i++)
      for (int j = 0; j < n; j++) {
        double sum = 0;
        for (int k = 0; k < n; k++) sum += a[i * n + k] * b[k * n + j];
        c[i * n + j] += sum;
      }
  uint64_t bits;
  double total = 0;
  for (int i = 0; i < n * n; i++) total += c[i];
  memcpy(&bits, &total, 8);
  free(a), free(b), free(c);
  return bits;
}

static uint64_t nbody(void) {
  enum { bodies = 5 };
  double p[bodies][3], v[bodies][3], m[bodies];
  for (int i = 0; i < bodies; i++) {
    m[i] = 1.0 / (i + 1);
    for (int d = 0; d < 3; d++) p[i][d] = i * 1.5 + d * 0.7, v[i][d] = 0.01 * (i - d);
  }
  for (int step = 0; step < 1600000; step++) {
    for (int i = 0; i < bodies; i++)
      for (int j = i + 1; j < bodies; j++) {
        double d[3], square = 1e-3;
        for (int k = 0; k < 3; k++) d[k] = p[i][k] - p[j][k], square += d[k] * d[k];
        double scale = 1e-3 / (square * __builtin_sqrt(square));
        for (int k = 0; k < 3; k++) v[i][k] -= d[k] * m[j] * scale, v[j][k] += d[k] * m[i] * scale;
      }
    for (int i = 0; i < bodies; i++)
      for (int k = 0; k < 3; k++) p[i][k] += 1e-3 * v[i][k];
  }
  uint64_t bits;
  memcpy(&bits, &p[0][0], 8);
  return bits;
}

__attribute__((optimize("O3"))) static uint64_t simd(void) {
  enum { n = 4096 };
  static float x[n], y[n];
  static int32_t z[n];
  for (int i = 0; i < n; i++) x[i] = i * 0.25f, y[i] = 1, z[i] = i;
  for (int round = 0; round < 150000; round++) {
    for (int i = 0; i < n; i++) y[i] = y[i] * 0.999f + x[i];
    for (int i = 0; i < n; i++) z[i] = (z[i] ^ round) + (z[i] >> 3);
  }
  uint64_t sum = 0;
  for (int i = 0; i < n; i++) sum += (int64_t)y[i] + z[i];
  return sum;
}

static uint64_t system_calls(void) {
  uint64_t sum = 0;
  for (int i = 0; i < 1000000; i++) sum += syscall(SYS_getppid) >= 0;
  return sum;
}

static uint64_t pipes(void) {
  int there[2], back[2];
  if (pipe(there) || pipe(back)) return 0;
  pid_t child = fork();
  uint64_t value = 0;
  if (child == 0) {
    while (read(there[0], &value, 8) == 8) {
      value++;
      if (write(back[1], &value, 8) != 8 || value >= 20000) break;
    }
    _exit(0);
  }
  while (value < 20000)
    if (write(there[1], &value, 8) != 8 || read(back[0], &value, 8) != 8) break;
  waitpid(child, NULL, 0);
  for (int i = 0; i < 2; i++) close(there[i]), close(back[i]);
  return value;
}

// Busybox' `true`, where BUSYBOX says where it is; else this program with nothing to do.
static uint64_t forks(void) {
  const char *busybox = getenv("BUSYBOX");
  uint64_t good = 0;
  for (int i = 0; i < 200; i++) {
    pid_t child = fork();
    if (child == 0) {
      if (busybox) execl(busybox, busybox, "true", NULL);
      execl("/proc/self/exe", "programs", "nothing", NULL);
      _exit(1);
    }
    int status;
    good += waitpid(child, &status, 0) == child && status == 0;
  }
  return good;
}

static uint64_t page_faults(void) {
  uint64_t sum = 0;
  for (int round = 0; round < 20; round++) {
    enum { size = 16 << 20 };
    char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return 0;
    madvise(memory, size, MADV_NOHUGEPAGE);
    for (int i = 0; i < size; i += 4096) memory[i] = 1, sum++;
    munmap(memory, size);
  }
  return sum;
}

static const struct { const char *name; uint64_t (*run)(void); } programs[] = {
  {"sha256", sha256}, {"sieve", sieve}, {"pointer-chase", pointer_chase}, {"hash-table", hash_table},
  {"matmul", matmul}, {"nbody", nbody}, {"simd", simd},
  {"system-calls", system_calls}, {"pipe", pipes}, {"fork-exec", forks}, {"page-faults", page_faults},
};

int main(int count, char **words) {
  if (count > 1 && !strcmp(words[1], "nothing")) return 0;
  // A host with several processors, as the guests have one.
  cpu_set_t here;
  CPU_ZERO(&here);
  CPU_SET(sched_getcpu(), &here);
  sched_setaffinity(0, sizeof here, &here);
  if (getpid() == 1) {
    mkdir("/proc", 0755);
    mount("proc", "/proc", "proc", 0, NULL);
    count = 1;
  }
  for (size_t i = 0; i < sizeof programs / sizeof *programs; i++) {
    if (count > 1 && strcmp(words[1], programs[i].name)) continue;
    double began = now();
    uint64_t result = programs[i].run();
    printf("%s %.4f %016llx\n", programs[i].name, now() - began, (unsigned long long)result);
    fflush(stdout);
  }
  // The first process of a guest: the monitor ends with it.
  if (getpid() == 1) {
    puts("BENCHMARKS-DONE");
    fflush(stdout);
    reboot(RB_AUTOBOOT);
  }
  return 0;
}
