/// What a technique may offer beside the bus and the interrupt controller: doorbells and interrupts that go through
/// eventfds, so that neither a vCPU's thread nor the device's has to meet the other (KVM's ioeventfd and irqfd).
///
/// An optional capability: devices work the same without it.
public protocol EventBinding: Sendable {
  /// From now on a store of this width to `address` adds one to the eventfd and goes no further; the bus doesn't see it.
  /// - Parameter value: the only one that does so; any if `nil`.
  /// - Throws: `TechniqueFailure` when the host refuses; then the bus goes on to see the stores.
  func bindDoorbell(
    _ eventDescriptor: Int32, to address: GuestPhysicalAddress, width: AccessWidth, value: UInt64?
  ) throws(TechniqueFailure)

  /// Ends what `bindDoorbell` began: the bus sees the stores again.
  /// - Throws: `TechniqueFailure` when the host refuses.
  func unbindDoorbell(
    _ eventDescriptor: Int32, from address: GuestPhysicalAddress, width: AccessWidth
  ) throws(TechniqueFailure)

  /// From now on adding to the eventfd pulses the line: asserted and released at once, for edge-triggered inputs.
  /// - Throws: `TechniqueFailure` when the host refuses.
  func bindPulse(_ eventDescriptor: Int32, to line: Int) throws(TechniqueFailure)
}

extension Partition {
  /// None, unless the technique says otherwise.
  public var eventBinding: (any EventBinding)? { nil }
}
