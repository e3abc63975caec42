import TrivisorDevices
import TrivisorTranslation
import TrivisorVMM

/// What is around the processor of a PC: the machine's buses, the interrupt chips in software, the host's clock.
final class PCSurroundings: ProcessorSurroundings {
  private let partition: RewritingPartition
  private let interrupts: ProcessorInterrupts

  init(_ partition: RewritingPartition, _ interrupts: ProcessorInterrupts) {
    self.partition = partition
    self.interrupts = interrupts
  }

  var takesSystemCalls: Bool { false }

  var waiting: WaitingEvents {
    // Asked at each exit: in numbers, since a set's literals and questions are generic code of another module.
    let pending = interrupts.pending
    if pending.rawValue == 0 { return WaitingEvents(rawValue: 0) }
    var events = WaitingEvents(rawValue: 0)
    if pending.contains(.interrupt) { events.insert(.interrupt) }
    if pending.contains(.nonMaskable) { events.insert(.nonMaskable) }
    if !pending.isDisjoint(with: [.initialize, .startup, .deadline]) { events.insert(.other) }
    return events
  }

  // MARK: Buses

  func readPort(_ port: UInt16, width: AccessWidth) -> UInt64 { UInt64(partition.bus.readPort(port, width: width)) }

  func writePort(_ port: UInt16, _ value: UInt64, width: AccessWidth) -> StopReason? {
    if case .stop(let reason) = partition.bus.writePort(port, UInt32(truncatingIfNeeded: value), width: width) {
      return reason
    }
    return nil
  }

  func readMemory(_ physical: UInt64, width: AccessWidth) -> UInt64 {
    partition.bus.readMemory(GuestPhysicalAddress(physical), width: width)
  }

  func writeMemory(_ physical: UInt64, _ value: UInt64, width: AccessWidth) -> StopReason? {
    if case .stop(let reason) = partition.bus.writeMemory(GuestPhysicalAddress(physical), value, width: width) {
      return reason
    }
    return nil
  }

  // MARK: The local APIC

  var hasLocalAPIC: Bool { interrupts.isEnabled }
  var localBase: UInt64 { interrupts.base }
  func setLocalBase(_ value: UInt64) -> Bool { interrupts.setBase(value) }
  func restoreLocalBase(_ value: UInt64) { interrupts.restoreBase(value) }
  var localPage: UInt64? { interrupts.page }
  func readLocalPage(_ offset: UInt64, width: AccessWidth) -> UInt64 { interrupts.readPage(offset, width: width) }
  func writeLocalPage(_ value: UInt64, _ offset: UInt64, width: AccessWidth) {
    interrupts.writePage(value, offset, width: width)
  }
  func readLocal(_ index: UInt32) -> UInt64? { interrupts.readModelSpecific(index) }
  func writeLocal(_ index: UInt32, _ value: UInt64) -> Bool { interrupts.writeModelSpecific(index, value) }
  func sendInterrupts(_ command: UInt32, to set: [UInt64], first: UInt32) -> Int? {
    interrupts.send(command, to: set, first: first)
  }
  func kickProcessor(_ identifier: UInt32) { partition.chipset.kick(identifier) }
  func nonMaskableBlockingChanged(to isBlocked: Bool) { interrupts.setServesNonMaskable(isBlocked) }
  func signalFloatingPointError() {
    partition.chipset.setLine(FloatingPointErrorPorts.interruptLine, asserted: true)
  }
  var taskPriority: UInt8 {
    get { interrupts.taskPriority }
    set { interrupts.taskPriority = newValue }
  }
  func restoreTaskPriority(_ value: UInt8) { interrupts.restoreTaskPriority(value) }

  // MARK: Time

  func timestampOffsetChanged(to offset: UInt64) { interrupts.setTimestampOffset(offset) }
  var systemTime: UInt64 { partition.clock.nanoseconds &- partition.startTime }
  var clockPair: (timestamp: UInt64, systemTime: UInt64) { partition.clockPair }
  var timestampFrequency: UInt64 { partition.clock.timestampFrequency }
}
