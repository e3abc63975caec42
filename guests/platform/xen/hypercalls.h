// Hypercalls, and what lies in memory that the hypervisor writes too.
#pragma once

#include <stdint.h>

#include "../TrapFrame.h"
#include "../native/frames.h"
#include "layout.h"

uint64_t xen_hypercall(uint64_t number, uint64_t first, uint64_t second, uint64_t third, uint64_t fourth);

void xen_call_on_stack(uint64_t top, void (*_Nonnull function)(void));

enum : uint64_t {
  xenSetTrapTable = 0,
  xenUpdatePageTables = 1,
  xenSetDescriptorTable = 2,
  xenUpdateDescriptor = 10,
  xenAssist = 21,
  xenMulticall = 13,
  xenMemoryOperation = 12,
  xenGrantTable = 20,
  xenTaskSwitch = 5,
  xenSetDebugRegister = 8,
  xenGetDebugRegister = 9,
  xenSwitchStack = 3,
  xenUpdateVirtualAddressMapping = 14,
  xenSetTimer = 15,
  xenVersion = 17,
  xenConsoleIO = 18,
  xenProcessorOperation = 24,
  xenSetSegmentBase = 25,
  xenExtendedPaging = 26,
  xenSchedulerOperation = 29,
  xenCallbackOperation = 30,
  xenEventChannelOperation = 32,
  xenPhysicalDevice = 33,
};

enum : uint64_t {
  xenSetIOPrivilege = 6,
  xenPinLevel4 = 3,  // MMUEXT_PIN_L4_TABLE
  xenNewRoot = 5,
  xenInvalidatePage = 7,
  xenNewUserRoot = 15,
  xenBindVirtualInterrupt = 1,  // EVTCHNOP_bind_virq
  xenBindInterprocessor = 7,  // EVTCHNOP_bind_ipi
  xenUnmaskEvent = 9,
  xenProcessorInitialise = 0,
  xenProcessorUp = 1,
  xenProcessorIsUp = 3,
  xenStartPeriodicTimer = 6,
  xenStopPeriodicTimer = 7,
  xenCallbackEvent = 0,
  xenCallbackSystemCall = 2,
  xenCallbackMasksEvents = 1,
  xenCodeSelector = 0xe033,
  xenKernelCodeSelector = 0xe030,
  xenDataSelector = 0xe02b,
};

struct XenTrap { uint8_t vector, flags; uint16_t selector; uint32_t padding; uint64_t address; };
struct XenCallback { uint16_t type, flags; uint32_t padding; uint64_t address; };
struct XenPageTableUpdate { uint64_t pointer, value; };
struct XenPagingOperation { uint32_t command, padding; uint64_t first, second; };
struct XenTwoWords { uint32_t first, second, third, padding; };

static inline uint64_t xen_trap_stub(uint64_t vector) {
  extern const char xen_trap_stubs[];
  return (uint64_t)xen_trap_stubs + 32 * vector;
}

static inline uint64_t xen_event_address(void) {
  extern const char xen_event_entry[];
  return (uint64_t)xen_event_entry;
}

static inline uint64_t xen_system_call_address(void) {
  extern const char xen_system_call_entry[];
  return (uint64_t)xen_system_call_entry;
}

// Runs user code from `frame` until it traps. The stack for traps from user mode is the frame's end already.
void xen_enter_user(struct TrapFrame *_Nonnull frame);

// The pages that Platform.allocateFrame gives out.
static inline uint64_t xen_frame_address(uint64_t index) {
  extern uint8_t native_frame_pool[NATIVE_FRAME_COUNT][4096];
  return (uint64_t)native_frame_pool[index];
}

static const uint64_t xenFrameCount = NATIVE_FRAME_COUNT;

// Other processors.
enum : uint64_t { xenProcessorLimit = 32 };

static inline uint64_t xen_processor_stack_end(uint64_t number) {
  extern char xen_processor_stacks[];
  return (uint64_t)xen_processor_stacks + 4096 * number;
}

static inline uint64_t xen_processor_context_address(void) {
  extern char xen_processor_context[];
  return (uint64_t)xen_processor_context;
}

static inline uint64_t xen_processor_entry_address(void) {
  extern const char xen_processor_entry[];
  return (uint64_t)xen_processor_entry;
}

static inline uint64_t xen_function_address(void (*_Nonnull function)(uint32_t)) { return (uint64_t)function; }

// Privileged, and done by the hypervisor when they trap.
static inline uint64_t xen_read_cr0(void) {
  uint64_t value;
  __asm__ volatile("mov %%cr0, %0" : "=r"(value));
  return value;
}

static inline uint64_t xen_read_msr(uint32_t number) {
  uint32_t low, high;
  __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(number));
  return (uint64_t)high << 32 | low;
}

// Without the hypercall page, as GRUB and Linux make their calls.
static inline uint64_t xen_bare_hypercall(uint64_t number, uint64_t first, uint64_t second) {
  __asm__ volatile("syscall" : "+a"(number) : "D"(first), "S"(second) : "rcx", "r11", "memory");
  return number;
}

// A load of two bytes of code.
static inline void cost_load(uint64_t address) {
  uint8_t value;
  __asm__ volatile("movb (%1), %0" : "=a"(value) : "D"(address) : "memory");
}

static inline void cost_breakpoint(void) { __asm__ volatile("int3" : : : "memory"); }

static inline uint64_t xen_timestamp(void) { return __builtin_ia32_rdtsc(); }
static inline void xen_pause(void) { __builtin_ia32_pause(); }

enum : uint64_t {
  xenSchedulerYield = 0,
  xenSchedulerBlock = 1,
  xenSchedulerShutdown = 2,
  xenShutdownPowerOff = 0,
  xenShutdownReboot = 1,
  xenShutdownCrash = 3,
  xenEventChannelSend = 4,
  xenFlagInitialDomain = 2,
};

static inline uint64_t xen_start(uint64_t offset) {
  extern const uint64_t xen_start_info;
  return *(const volatile uint64_t *)(xen_start_info + offset);
}

static inline uint64_t xen_command_line(void) {
  extern const uint64_t xen_start_info;
  return xen_start_info + XEN_START_COMMAND_LINE;
}

// Pages of the image whose places the shared pages take.
static inline uint64_t xen_shared_page_address(void) { extern char xen_shared_page[]; return (uint64_t)xen_shared_page; }
static inline uint64_t xen_console_page_address(void) { extern char xen_console_page[]; return (uint64_t)xen_console_page; }
static inline uint64_t xen_store_page_address(void) { extern char xen_store_page[]; return (uint64_t)xen_store_page; }

// x86 keeps the order of stores and of loads; the compiler must, too. A full fence where a store precedes a load.
static inline uint32_t xen_load32(uint64_t address) { return __atomic_load_n((uint32_t *)address, __ATOMIC_ACQUIRE); }
static inline void xen_store32(uint64_t address, uint32_t value) {
  __atomic_store_n((uint32_t *)address, value, __ATOMIC_SEQ_CST);
}
static inline void xen_store8(uint64_t address, uint8_t value) { *(volatile uint8_t *)address = value; }
static inline uint64_t xen_load64(uint64_t address) { return __atomic_load_n((uint64_t *)address, __ATOMIC_ACQUIRE); }
static inline void xen_store64(uint64_t address, uint64_t value) { *(volatile uint64_t *)address = value; }
static inline uint64_t xen_exchange64(uint64_t address, uint64_t value) {
  return __atomic_exchange_n((uint64_t *)address, value, __ATOMIC_SEQ_CST);
}
static inline uint8_t xen_load8(uint64_t address) { return *(volatile uint8_t *)address; }
