import Synchronization
import TrivisorVMM

extension VirtioPCI: Restorable {
  /// The configuration space, the registers, the queues, and what the device remembers.
  public struct Saved: SavedState {
    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    public static let version = 1
    var control: VirtioControl.Saved
    /// What can be written of the configuration space.
    var configurationSpace: [UInt32]
    var messages: MSIXTable.Saved
    var interruptReasons: UInt8
    var configurationVector: UInt16
    var queueVectors: [UInt16]
    var deviceFeaturesSelect: UInt32
    var driverFeaturesSelect: UInt32
    var queueSelect: UInt16
  }

  /// Between `hold` and `release`, with the processors standing. Guest memory as it is at that time belongs to it.
  public func save() -> Saved {
    let state = interrupts.state.withLock { $0 }
    return Saved(
      control: control.save(), configurationSpace: state.space.save(), messages: state.table.save(),
      interruptReasons: state.reasons, configurationVector: state.configurationVector,
      queueVectors: state.queueVectors, deviceFeaturesSelect: deviceFeaturesSelect.load(ordering: .relaxed),
      driverFeaturesSelect: driverFeaturesSelect.load(ordering: .relaxed),
      queueSelect: queueSelect.load(ordering: .relaxed))
  }

  /// When guest memory is as it was; the device looks at its queues as soon as it is not held.
  /// - Throws: `RestoreFailure` for another type's, queues that are not in memory, or registers that can't be.
  public func restore(_ saved: Saved) throws(RestoreFailure) {
    var state = interrupts.state.withLock { $0 }
    try state.space.restore(saved.configurationSpace)
    try state.table.restore(saved.messages)
    let subject = "virtio device"
    try restoring(
      subject, requires: saved.interruptReasons & ~VirtioPCIInterrupts.Reason.all == 0,
      "its interrupt has the reasons \(saved.interruptReasons)")
    let vectors = saved.queueVectors + [saved.configurationVector]
    try restoring(
      subject,
      requires: saved.queueVectors.count == state.queueVectors.count
        && vectors.allSatisfy { Int($0) < state.table.count || $0 == VirtioPCIInterrupts.noVector },
      "its queues interrupt by vectors that are not in its table")
    try restoring(
      subject, requires: messageControl(state.space) == saved.messages.control,
      "its table and its configuration space disagree on whether MSI-X is enabled")
    state.reasons = saved.interruptReasons
    state.queueVectors = saved.queueVectors
    state.configurationVector = saved.configurationVector
    try control.restore(saved.control) {
      adopt(state)
      deviceFeaturesSelect.store(saved.deviceFeaturesSelect, ordering: .relaxed)
      driverFeaturesSelect.store(saved.driverFeaturesSelect, ordering: .relaxed)
      queueSelect.store(saved.queueSelect, ordering: .relaxed)
    }
    bindDoorbells()
  }
}
