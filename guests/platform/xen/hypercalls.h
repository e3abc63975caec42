// Hypercalls, and what lies in memory that the hypervisor writes too.
#pragma once

#include <stdint.h>

#include "layout.h"

uint64_t xen_hypercall(uint64_t number, uint64_t first, uint64_t second, uint64_t third, uint64_t fourth);

void xen_call_on_stack(uint64_t top, void (*_Nonnull function)(void));

enum : uint64_t {
  xenSetTrapTable = 0,
  xenUpdateVirtualAddressMapping = 14,
  xenConsoleIO = 18,
  xenSchedulerOperation = 29,
  xenEventChannelOperation = 32,
};

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
static inline uint8_t xen_load8(uint64_t address) { return *(volatile uint8_t *)address; }
