import CKVM

/// An ability of KVM that Trivisor can't do without.
struct KVMCapability: Sendable {
  /// As KVM_CHECK_EXTENSION takes it.
  let number: UInt
  /// As <linux/kvm.h> spells it.
  let name: String
  /// What for, for the message.
  let purpose: String

  private init(_ number: Int32, _ name: String, _ purpose: String) {
    self.number = UInt(number)
    self.name = name
    self.purpose = purpose
  }

  static let required = [
    KVMCapability(KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY", "guest memory"),
    KVMCapability(KVM_CAP_SET_TSS_ADDR, "KVM_CAP_SET_TSS_ADDR", "real mode on Intel processors"),
    KVMCapability(KVM_CAP_SET_IDENTITY_MAP_ADDR, "KVM_CAP_SET_IDENTITY_MAP_ADDR", "unpaged guests on Intel processors"),
    KVMCapability(KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP", "interrupt controllers in the kernel"),
    KVMCapability(KVM_CAP_PIT2, "KVM_CAP_PIT2", "the timer in the kernel"),
    KVMCapability(KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID", "processor models"),
    KVMCapability(KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE", "halted and waiting processors"),
    KVMCapability(KVM_CAP_VCPU_EVENTS, "KVM_CAP_VCPU_EVENTS", "pending exceptions and interrupts"),
    KVMCapability(KVM_CAP_DEBUGREGS, "KVM_CAP_DEBUGREGS", "debug registers"),
    KVMCapability(KVM_CAP_XSAVE, "KVM_CAP_XSAVE", "vector registers"),
    KVMCapability(KVM_CAP_XCRS, "KVM_CAP_XCRS", "extended control registers"),
    KVMCapability(KVM_CAP_SIGNAL_MSI, "KVM_CAP_SIGNAL_MSI", "message-signalled interrupts"),
    KVMCapability(KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT", "stopping a processor in bounded time"),
  ]
}
