// The instructions that Swift can't say, one function each, named like the instruction. Nothing else in the guests'
// sources is privileged, but for the assembly beside this file and the table in privileged-instructions.S.
#pragma once

#include <stdint.h>

static inline void native_outb(uint16_t port, uint8_t value) {
  __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint8_t native_inb(uint16_t port) {
  uint8_t value;
  __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}

static inline void native_cli(void) { __asm__ volatile("cli" : : : "memory"); }
static inline void native_hlt(void) { __asm__ volatile("hlt" : : : "memory"); }
static inline void native_pause(void) { __asm__ volatile("pause" : : : "memory"); }

#ifdef __x86_64__

// Interrupts are taken behind the instruction that follows STI.
static inline void native_take_interrupts(void) { __asm__ volatile("sti; nop; nop; cli" : : : "memory"); }
static inline void native_sti_hlt_cli(void) { __asm__ volatile("sti; hlt; cli" : : : "memory"); }

static inline uint64_t native_rdmsr(uint32_t msr) {
  uint32_t low, high;
  __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
  return ((uint64_t)high << 32) | low;
}

static inline void native_wrmsr(uint32_t msr, uint64_t value) {
  __asm__ volatile("wrmsr" : : "c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)) : "memory");
}

static inline uint64_t native_rdtsc(void) {
  uint32_t low, high;
  __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
  return ((uint64_t)high << 32) | low;
}

static inline uint64_t native_read_cr2(void) {
  uint64_t value;
  __asm__ volatile("mov %%cr2, %0" : "=r"(value));
  return value;
}

static inline uint64_t native_read_cr3(void) {
  uint64_t value;
  __asm__ volatile("mov %%cr3, %0" : "=r"(value));
  return value;
}

static inline void native_write_cr3(uint64_t value) { __asm__ volatile("mov %0, %%cr3" : : "r"(value) : "memory"); }
static inline void native_invlpg(uint64_t address) { __asm__ volatile("invlpg (%0)" : : "r"(address) : "memory"); }

static inline uint64_t native_read_cr0(void) {
  uint64_t value;
  __asm__ volatile("mov %%cr0, %0" : "=r"(value));
  return value;
}

static inline void native_write_cr0(uint64_t value) { __asm__ volatile("mov %0, %%cr0" : : "r"(value) : "memory"); }

// CR0.TS and CR4.OSXSAVE.
static inline void native_set_task_switched(void) {
  uint64_t value;
  __asm__ volatile("mov %%cr0, %0; or $8, %0; mov %0, %%cr0" : "=&r"(value));
}

static inline void native_enable_xsave(void) {
  uint64_t value;
  __asm__ volatile("mov %%cr4, %0; or $0x40000, %0; mov %0, %%cr4" : "=&r"(value));
}

struct CPUIDResult { uint32_t eax, ebx, ecx, edx; };

static inline struct CPUIDResult native_cpuid(uint32_t leaf, uint32_t subleaf) {
  struct CPUIDResult r;
  __asm__ volatile("cpuid" : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx) : "a"(leaf), "c"(subleaf));
  return r;
}

// Memory-mapped registers: one access, as wide as it says.
static inline void native_write32(uint64_t address, uint32_t value) { *(volatile uint32_t *)address = value; }
static inline uint32_t native_read32(uint64_t address) { return *(volatile uint32_t *)address; }

// A table of length 0: from here on every trap is a triple fault.
static inline void native_load_empty_idt(void) {
  struct { uint16_t limit; uint64_t base; } __attribute__((packed)) empty = {0, 0};
  __asm__ volatile("lidt %0" : : "m"(empty));
}

#endif
