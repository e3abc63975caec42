// What a machine's processor does with what happens to it: start-up messages and INIT, exceptions and interrupts that are
// delivered (`EventDelivery`), or turned into double and triple faults.

import TrivisorInstructionSet
import TrivisorVMM
import TrivisorX86

/// Changes a processor by events, between two of its instructions.
package struct ProcessorEvents {
  private let processor: TranslatedProcessor

  /// - Parameter processor: whose events they are.
  package init(_ processor: TranslatedProcessor) { self.processor = processor }

  /// What a start-up message does (AMD64 APM vol. 2, 14.1.3 and 16.5).
  package func begin(at vector: UInt8) {
    processor.control.code = .real(UInt16(vector) << 8, code: true)
    processor.rip = 0
    processor.activity = .running
  }

  /// The state after INIT (AMD64 APM vol. 2, 14.1.3): vectors, MSRs and the time stamp stay as they are.
  package func initialize() {
    var registers = SystemRegisters()
    registers.cr0 =
      processor.control.cr0.intersection([.cacheDisable, .notWriteThrough]).union(.extensionType).rawValue
    processor.control.restore(registers, privilege: 0)
    processor.debug = DebugRegisters()
    processor.pendingEvents = PendingEvents()
    processor.shadow = .none
    processor.branchRecord = BranchRecord()
    for number in 0..<16 { processor.block.general[number] = 0 }
    processor.block.general[2] = 0x600
    processor.rip = 0xfff0
    processor.flags = .alwaysOne
  }

  /// Says in the clock in guest memory that the machine was stopped.
  package func tellOfLostTime() { MonitorClock(context: processor).tellOfLostTime() }

  /// Says in guest memory for how many nanoseconds it could not run, since the last time.
  package func tellOfStolenTime(_ nanoseconds: UInt64) { StolenTime(context: processor).add(nanoseconds) }

  /// Before it sleeps, and afterwards: the others may leave it alone meanwhile.
  package func fallAsleep() { StolenTime(context: processor).fallAsleep() }
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  package func wakeUp() { StolenTime(context: processor).wakeUp() }

  /// Delivers an exception, or the double fault that comes of trying.
  /// - Returns: why the machine ends, if it does.
  package func raise(_ first: GuestException) -> StopReason? {
    if first == .x87, !processor.cr0.contains(.numericError) {
      signalX87Error()
      return nil
    }
    processor.counters.count(.exceptionDelivered)
    processor.ledger.exceptions.add(
      first.vector, errorCode: PageFaultError(rawValue: first.errorCode ?? 0), isUser: processor.cpl == 3)
    var exception = first
    while true {
      if exception.vector == ExceptionVector.debug.rawValue { processor.enterDebugHandler() }
      if let address = exception.address { processor.control.cr2 = address }
      do throws(Interruption) {
        try EventDelivery(context: processor).deliver(
          GuestEvent(
            vector: exception.vector, errorCode: exception.errorCode,
            flags: exception.setsResumeFlag ? processor.flags.union(.resume) : processor.flags, isSoftware: false,
            returnRIP: processor.rip))
        return nil
      } catch {
        switch error {
        case .exception(let second):
          guard let next = exception.followed(by: second) else { return .tripleFault }
          exception = next
        case .stop(let reason): return reason
        case .unsupported(let name): return .crashed(processor.crashReport("\(name) is not translated yet"))
        }
      }
    }
  }

  /// With CR0.NE = 0 an x87 error is no exception: FERR# asks for an interrupt, and the instruction waits until somebody has come and
  /// gone (AMD64 APM vol. 2, 3.1.1 and 8.2.17). IGNNE# is not there: an error that is still pending asks again.
  private func signalX87Error() {
    processor.surroundings.signalFloatingPointError()
    processor.activity = .halted
  }

  /// What a written state asks for before the next instruction.
  package func deliverPendingEvent() -> StopReason? {
    let events = processor.pendingEvents
    processor.pendingEvents.exception = nil
    processor.pendingEvents.interrupt = nil
    if let exception = events.exception {
      let address = exception.vector == ExceptionVector.pageFault.rawValue ? exception.payload : nil
      if exception.vector == ExceptionVector.debug.rawValue, let bits = exception.payload {
        processor.debug.dr6 |= bits
      }
      return raise(GuestException(vector: exception.vector, errorCode: exception.errorCode, address: address))
    }
    if let vector = events.interrupt { return deliverEvent(vector, isSoftware: events.interruptIsSoftware) }
    if events.nonMaskablePending, !events.nonMaskableBlocked {
      processor.pendingEvents.nonMaskablePending = false
      processor.pendingEvents.nonMaskableBlocked = true
      return deliverEvent(ExceptionVector.nonMaskableInterrupt.rawValue, isSoftware: false)
    }
    return nil
  }

  /// An interrupt, from the chips or from a written state.
  package func deliverEvent(_ vector: UInt8, isSoftware: Bool) -> StopReason? {
    processor.counters.count(.interruptDelivered)
    do throws(Interruption) {
      try EventDelivery(context: processor).deliver(
        GuestEvent(
          vector: vector, errorCode: nil, flags: processor.flags, isSoftware: isSoftware, returnRIP: processor.rip))
      return nil
    } catch {
      switch error {
      case .exception(let exception): return raise(exception)
      case .stop(let reason): return reason
      case .unsupported(let name): return .crashed(processor.crashReport("\(name) is not translated yet"))
      }
    }
  }
}
