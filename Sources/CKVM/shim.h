// <linux/kvm.h> for Swift: the kernel's structures as they are, and one typed function an ioctl.
//
// Every function is named after its ioctl in lower case and gives the ioctl's result (zero or more) or -errno; nothing is
// retried, checked or hidden here. What the importer drops (function-like macros, flexible arrays) has an accessor.
#pragma once

#include <errno.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <sys/ioctl.h>

static inline int ckvm_result(int result) { return result < 0 ? -errno : result; }

// The system: a descriptor of /dev/kvm.

static inline int kvm_get_api_version(int fd) { return ckvm_result(ioctl(fd, KVM_GET_API_VERSION, 0)); }
static inline int kvm_create_vm(int fd, unsigned long type) { return ckvm_result(ioctl(fd, KVM_CREATE_VM, type)); }
static inline int kvm_check_extension(int fd, unsigned long capability) { return ckvm_result(ioctl(fd, KVM_CHECK_EXTENSION, capability)); }
static inline int kvm_get_vcpu_mmap_size(int fd) { return ckvm_result(ioctl(fd, KVM_GET_VCPU_MMAP_SIZE, 0)); }
static inline int kvm_get_supported_cpuid(int fd, struct kvm_cpuid2 *argument) {
  return ckvm_result(ioctl(fd, KVM_GET_SUPPORTED_CPUID, argument));
}
static inline int kvm_get_msr_index_list(int fd, struct kvm_msr_list *argument) {
  return ckvm_result(ioctl(fd, KVM_GET_MSR_INDEX_LIST, argument));
}

// A machine: what KVM_CREATE_VM gave.

static inline int kvm_create_vcpu(int fd, unsigned long index) { return ckvm_result(ioctl(fd, KVM_CREATE_VCPU, index)); }
static inline int kvm_set_user_memory_region(int fd, const struct kvm_userspace_memory_region *argument) {
  return ckvm_result(ioctl(fd, KVM_SET_USER_MEMORY_REGION, argument));
}
static inline int kvm_set_tss_addr(int fd, unsigned long address) { return ckvm_result(ioctl(fd, KVM_SET_TSS_ADDR, address)); }
static inline int kvm_set_identity_map_addr(int fd, const uint64_t *argument) {
  return ckvm_result(ioctl(fd, KVM_SET_IDENTITY_MAP_ADDR, argument));
}
static inline int kvm_create_irqchip(int fd) { return ckvm_result(ioctl(fd, KVM_CREATE_IRQCHIP, 0)); }
static inline int kvm_create_pit2(int fd, const struct kvm_pit_config *argument) {
  return ckvm_result(ioctl(fd, KVM_CREATE_PIT2, argument));
}
static inline int kvm_irq_line(int fd, const struct kvm_irq_level *argument) {
  return ckvm_result(ioctl(fd, KVM_IRQ_LINE, argument));
}
static inline int kvm_signal_msi(int fd, const struct kvm_msi *argument) {
  return ckvm_result(ioctl(fd, KVM_SIGNAL_MSI, argument));
}
static inline int kvm_irqfd(int fd, const struct kvm_irqfd *argument) {
  return ckvm_result(ioctl(fd, KVM_IRQFD, argument));
}
static inline int kvm_ioeventfd(int fd, const struct kvm_ioeventfd *argument) {
  return ckvm_result(ioctl(fd, KVM_IOEVENTFD, argument));
}
static inline int kvm_set_gsi_routing(int fd, const struct kvm_irq_routing *argument) {
  return ckvm_result(ioctl(fd, KVM_SET_GSI_ROUTING, argument));
}
static inline int kvm_enable_cap(int fd, const struct kvm_enable_cap *argument) {
  return ckvm_result(ioctl(fd, KVM_ENABLE_CAP, argument));
}
static inline int kvm_get_clock(int fd, struct kvm_clock_data *argument) {
  return ckvm_result(ioctl(fd, KVM_GET_CLOCK, argument));
}
static inline int kvm_set_clock(int fd, const struct kvm_clock_data *argument) {
  return ckvm_result(ioctl(fd, KVM_SET_CLOCK, argument));
}
static inline int kvm_get_dirty_log(int fd, struct kvm_dirty_log *argument) {
  return ckvm_result(ioctl(fd, KVM_GET_DIRTY_LOG, argument));
}

// A processor: what KVM_CREATE_VCPU gave.

static inline int kvm_run(int fd) { return ckvm_result(ioctl(fd, KVM_RUN, 0)); }
static inline int kvm_get_regs(int fd, struct kvm_regs *argument) {
  return ckvm_result(ioctl(fd, KVM_GET_REGS, argument));
}
static inline int kvm_set_regs(int fd, const struct kvm_regs *argument) {
  return ckvm_result(ioctl(fd, KVM_SET_REGS, argument));
}
static inline int kvm_get_sregs(int fd, struct kvm_sregs *argument) {
  return ckvm_result(ioctl(fd, KVM_GET_SREGS, argument));
}
static inline int kvm_set_sregs(int fd, const struct kvm_sregs *argument) {
  return ckvm_result(ioctl(fd, KVM_SET_SREGS, argument));
}
static inline int kvm_get_xsave(int fd, struct kvm_xsave *argument) {
  return ckvm_result(ioctl(fd, KVM_GET_XSAVE, argument));
}
static inline int kvm_get_xsave2(int fd, struct kvm_xsave *argument) {
  return ckvm_result(ioctl(fd, KVM_GET_XSAVE2, argument));
}
static inline int kvm_set_xsave(int fd, const struct kvm_xsave *argument) {
  return ckvm_result(ioctl(fd, KVM_SET_XSAVE, argument));
}
static inline int kvm_get_xcrs(int fd, struct kvm_xcrs *argument) {
  return ckvm_result(ioctl(fd, KVM_GET_XCRS, argument));
}
static inline int kvm_set_xcrs(int fd, const struct kvm_xcrs *argument) {
  return ckvm_result(ioctl(fd, KVM_SET_XCRS, argument));
}
static inline int kvm_get_debugregs(int fd, struct kvm_debugregs *argument) {
  return ckvm_result(ioctl(fd, KVM_GET_DEBUGREGS, argument));
}
static inline int kvm_set_debugregs(int fd, const struct kvm_debugregs *argument) {
  return ckvm_result(ioctl(fd, KVM_SET_DEBUGREGS, argument));
}
static inline int kvm_get_msrs(int fd, struct kvm_msrs *argument) {
  return ckvm_result(ioctl(fd, KVM_GET_MSRS, argument));
}
static inline int kvm_set_msrs(int fd, const struct kvm_msrs *argument) {
  return ckvm_result(ioctl(fd, KVM_SET_MSRS, argument));
}
static inline int kvm_set_cpuid2(int fd, const struct kvm_cpuid2 *argument) {
  return ckvm_result(ioctl(fd, KVM_SET_CPUID2, argument));
}
static inline int kvm_get_mp_state(int fd, struct kvm_mp_state *argument) {
  return ckvm_result(ioctl(fd, KVM_GET_MP_STATE, argument));
}
static inline int kvm_set_mp_state(int fd, const struct kvm_mp_state *argument) {
  return ckvm_result(ioctl(fd, KVM_SET_MP_STATE, argument));
}
static inline int kvm_get_vcpu_events(int fd, struct kvm_vcpu_events *argument) {
  return ckvm_result(ioctl(fd, KVM_GET_VCPU_EVENTS, argument));
}
static inline int kvm_set_vcpu_events(int fd, const struct kvm_vcpu_events *argument) {
  return ckvm_result(ioctl(fd, KVM_SET_VCPU_EVENTS, argument));
}
static inline int kvm_get_lapic(int fd, struct kvm_lapic_state *argument) {
  return ckvm_result(ioctl(fd, KVM_GET_LAPIC, argument));
}
static inline int kvm_set_lapic(int fd, const struct kvm_lapic_state *argument) {
  return ckvm_result(ioctl(fd, KVM_SET_LAPIC, argument));
}
static inline int kvm_interrupt(int fd, const struct kvm_interrupt *argument) {
  return ckvm_result(ioctl(fd, KVM_INTERRUPT, argument));
}
// The guest is told that it was stopped; refused (EINVAL) while it has no clock of KVM's.
static inline int kvm_clock_control(int fd) { return ckvm_result(ioctl(fd, KVM_KVMCLOCK_CTRL, 0)); }
static inline int kvm_nmi(int fd) { return ckvm_result(ioctl(fd, KVM_NMI, 0)); }
// From Linux 5.15 on; refused (EINVAL) by older ones.
#ifndef KVM_GUESTDBG_BLOCKIRQ
#define KVM_GUESTDBG_BLOCKIRQ 0x00100000
#endif
#ifndef KVM_CAP_SET_GUEST_DEBUG2
#define KVM_CAP_SET_GUEST_DEBUG2 195
#endif
static inline int kvm_set_guest_debug(int fd, const struct kvm_guest_debug *argument) {
  return ckvm_result(ioctl(fd, KVM_SET_GUEST_DEBUG, argument));
}
static inline int kvm_translate(int fd, struct kvm_translation *argument) {
  return ckvm_result(ioctl(fd, KVM_TRANSLATE, argument));
}
static inline int kvm_get_tsc_khz(int fd) { return ckvm_result(ioctl(fd, KVM_GET_TSC_KHZ, 0)); }
static inline int kvm_set_tsc_khz(int fd, unsigned long kilohertz) { return ckvm_result(ioctl(fd, KVM_SET_TSC_KHZ, kilohertz)); }
static inline int kvm_set_signal_mask(int fd, const struct kvm_signal_mask *argument) {
  return ckvm_result(ioctl(fd, KVM_SET_SIGNAL_MASK, argument));
}
static inline int kvm_kvmclock_ctrl(int fd) { return ckvm_result(ioctl(fd, KVM_KVMCLOCK_CTRL, 0)); }

// Flexible arrays, which Swift does not see.

static inline struct kvm_cpuid_entry2 *kvm_cpuid2_entries(struct kvm_cpuid2 *list) { return list->entries; }
static inline struct kvm_msr_entry *kvm_msrs_entries(struct kvm_msrs *list) { return list->entries; }
static inline uint32_t *kvm_msr_list_indices(struct kvm_msr_list *list) { return list->indices; }
