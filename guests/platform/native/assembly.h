// The assembly's side of the native platform: what entry.S, traps.S and processors.S define for Swift.
#pragma once

#include <stdint.h>

#include "frames.h"

// What the loader left in EAX and EBX.
struct BootRegisters { uint32_t eax, ebx; };
extern const struct BootRegisters native_boot_registers __attribute__((swift_attr("nonisolated(unsafe)")));

#ifdef __x86_64__

#include "../TrapFrame.h"

// Runs user code from `frame` until it traps; the frame then holds what it was doing. `frame` is aligned to 16 bytes.
void native_enter_user(struct TrapFrame *_Nonnull frame);

// Where SYSCALL goes.
static inline uint64_t native_system_call_address(void) {
  extern void native_system_call_entry(void);
  return (uint64_t)&native_system_call_entry;
}

// Calls `function` on the stack that ends below `top`.
void native_call_on_stack(uint64_t top, void (*_Nonnull function)(void));

// The page table that the image is loaded with: four entries for 1 GiB each.
static inline uint64_t native_gigabyte_entry(int index) {
  extern const uint64_t native_pdpt[512];
  return native_pdpt[index];
}

// The pages that Platform.allocateFrame gives out.
static inline uint64_t native_frame_address(uint64_t index) {
  extern uint8_t native_frame_pool[NATIVE_FRAME_COUNT][4096];
  return (uint64_t)native_frame_pool[index];
}

static const uint64_t nativeFrameCount = NATIVE_FRAME_COUNT;

// What other processors run first, to be copied below 1 MiB.
static inline const void *_Nonnull native_trampoline_start(void) {
  extern const char native_trampoline[];
  return native_trampoline;
}

static inline uint64_t native_trampoline_size(void) {
  extern const char native_trampoline[], native_trampoline_end[];
  return (uint64_t)(native_trampoline_end - native_trampoline);
}

// What they call then, with their number.
static inline void native_set_processor_function(void (*_Nonnull function)(uint32_t)) {
  extern void (*native_processor_function)(uint32_t);
  native_processor_function = function;
}

// Where the image's descriptor tables are.
struct DescriptorTables { uint64_t gdtBase, gdtLimit, idtBase, idtLimit; };

static inline struct DescriptorTables native_tables(void) {
  extern const uint64_t native_gdt[], native_gdt_end[], native_idt[];
  struct DescriptorTables tables = {
      (uint64_t)native_gdt, (uint64_t)native_gdt_end - (uint64_t)native_gdt - 1, (uint64_t)native_idt, 256 * 16 - 1};
  return tables;
}

#endif
