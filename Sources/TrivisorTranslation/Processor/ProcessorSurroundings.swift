import TrivisorVMM

/// What waits for a processor between two instructions.
package struct WaitingEvents: OptionSet, Sendable {
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  package let rawValue: UInt8
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  package init(rawValue: UInt8) { self.rawValue = rawValue }

  /// What RFLAGS.IF masks.
  package static let interrupt = WaitingEvents(rawValue: 1)
  /// What the handler of an NMI masks.
  package static let nonMaskable = WaitingEvents(rawValue: 2)
  /// What nothing masks.
  package static let other = WaitingEvents(rawValue: 4)
}

/// A store into a page of RAM that the surroundings carry out.
package enum InterceptedStore {
  /// In its physical address: beyond all RAM, so that it is made on the bounce buffer.
  package static let mark: UInt64 = 1 << 51
}

/// What a translated processor is part of: buses, interrupt chips, clocks. Everything is asked on the processor's thread.
package protocol ProcessorSurroundings: AnyObject {
  /// Whether there is something for the processor, masked or not: costs one load.
  var waiting: WaitingEvents { get }
  /// Whether SYSCALL comes back to whoever runs the processor (`takeSystemCall`), not to the guest's kernel.
  var takesSystemCalls: Bool { get }
  /// Who keeps descriptor tables, if they are not the guest's memory at the bases that it has loaded.
  var descriptorKeeper: (any DescriptorKeeper)? { get }

  // MARK: Buses

  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  func readPort(_ port: UInt16, width: AccessWidth) -> UInt64
  /// - Returns: why the machine ends, if it does.
  func writePort(_ port: UInt16, _ value: UInt64, width: AccessWidth) -> StopReason?
  /// Whether it carries out stores of user code into a page that the page tables don't let it write: they come to `writeMemory`,
  /// and what an instruction reads there before to `readMemory`, with `InterceptedStore.mark` set in the address.
  func takesStore(to physical: UInt64, linear: UInt64) -> Bool
  /// What is not RAM.
  func readMemory(_ physical: UInt64, width: AccessWidth) -> UInt64
  /// - Returns: why the machine ends, if it does.
  func writeMemory(_ physical: UInt64, _ value: UInt64, width: AccessWidth) -> StopReason?

  // MARK: The local APIC

  /// Whether it is switched on.
  var hasLocalAPIC: Bool { get }
  /// MSR APIC_BASE.
  var localBase: UInt64 { get }
  /// - Returns: whether it can have this value.
  func setLocalBase(_ value: UInt64) -> Bool
  /// Whatever it was.
  func restoreLocalBase(_ value: UInt64)
  /// Where the page of its registers is, if it is to be seen.
  var localPage: UInt64? { get }
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  func readLocalPage(_ offset: UInt64, width: AccessWidth) -> UInt64
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  func writeLocalPage(_ value: UInt64, _ offset: UInt64, width: AccessWidth)
  /// One of its model-specific registers, if there is such a one.
  func readLocal(_ index: UInt32) -> UInt64?
  /// - Returns: whether it can be written so.
  func writeLocal(_ index: UInt32, _ value: UInt64) -> Bool
  /// Sends an interrupt command to the processors of a set whose bit 0 is the APIC ID `first`.
  /// - Returns: how many there are, or `nil` for another command than a fixed interrupt or an NMI.
  func sendInterrupts(_ command: UInt32, to set: [UInt64], first: UInt32) -> Int?
  /// Ends the HLT of the processor with this APIC ID, or its next one, if there is such a processor.
  func kickProcessor(_ identifier: UInt32)
  /// Whether an NMI's handler runs has changed.
  func nonMaskableBlockingChanged(to isBlocked: Bool)
  /// FERR#: an x87 error that is no exception, because CR0.NE is 0.
  func signalFloatingPointError()
  /// CR8.
  var taskPriority: UInt8 { get set }
  /// The same where it is not the guest that sets it.
  func restoreTaskPriority(_ value: UInt8)

  // MARK: Time

  /// What the guest's time stamp counter is ahead of the host's.
  func timestampOffsetChanged(to offset: UInt64)
  /// Nanoseconds since the machine began.
  var systemTime: UInt64 { get }
  /// The host's time stamp counter and the system time at one moment, which is the same for all processors.
  var clockPair: (timestamp: UInt64, systemTime: UInt64) { get }
  /// Of the time stamp counter, in hertz.
  var timestampFrequency: UInt64 { get }
}

extension ProcessorSurroundings {
  /// Nobody.
  package var descriptorKeeper: (any DescriptorKeeper)? { nil }
  /// None.
  package func takesStore(to physical: UInt64, linear: UInt64) -> Bool { false }
  /// Nobody.
  package func nonMaskableBlockingChanged(to isBlocked: Bool) {}
  /// Nobody.
  package func kickProcessor(_ identifier: UInt32) {}
}
