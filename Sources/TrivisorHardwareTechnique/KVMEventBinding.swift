import CKVM
import TrivisorVMM

/// Doorbells and interrupts through eventfds that KVM watches itself: a guest's store to a doorbell then costs no exit to
/// user space, and a device's interrupt no ioctl (Documentation/virt/kvm/api.rst, KVM_IOEVENTFD and KVM_IRQFD).
final class KVMEventBinding: EventBinding {
  private let machine: OwnedDescriptor

  /// Whether this host's KVM can do both.
  static func isAvailable(_ system: KVMSystem) -> Bool {
    system.check(KVM_CAP_IOEVENTFD) > 0 && system.check(KVM_CAP_IRQFD) > 0
  }

  init(machine: OwnedDescriptor) { self.machine = machine }

  func bindDoorbell(
    _ eventDescriptor: Int32, to address: GuestPhysicalAddress, width: AccessWidth, value: UInt64?
  ) throws(TechniqueFailure) {
    try change(
      eventDescriptor, address, width, value: value ?? 0,
      flags: value == nil ? 0 : 1 << UInt32(kvm_ioeventfd_flag_nr_datamatch))
  }

  func unbindDoorbell(
    _ eventDescriptor: Int32, from address: GuestPhysicalAddress, width: AccessWidth
  ) throws(TechniqueFailure) {
    try change(eventDescriptor, address, width, value: 0, flags: 1 << UInt32(kvm_ioeventfd_flag_nr_deassign))
  }

  private func change(
    _ eventDescriptor: Int32, _ address: GuestPhysicalAddress, _ width: AccessWidth, value: UInt64, flags: UInt32
  ) throws(TechniqueFailure) {
    var doorbell = kvm_ioeventfd()
    doorbell.datamatch = value
    doorbell.addr = address.rawValue
    doorbell.len = UInt32(width.rawValue)
    doorbell.fd = eventDescriptor
    doorbell.flags = flags
    _ = try kvm("KVM_IOEVENTFD", kvm_ioeventfd(machine.raw, &doorbell))
  }

  func bindPulse(_ eventDescriptor: Int32, to line: Int) throws(TechniqueFailure) {
    var pulse = kvm_irqfd()
    pulse.fd = UInt32(bitPattern: eventDescriptor)
    pulse.gsi = UInt32(truncatingIfNeeded: line)
    _ = try kvm("KVM_IRQFD", kvm_irqfd(machine.raw, &pulse))
  }
}
