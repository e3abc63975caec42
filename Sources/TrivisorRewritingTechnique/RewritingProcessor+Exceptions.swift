// Exceptions and interrupts of the processor: delivered (`EventDelivery`), or turned into double and triple faults.

import TrivisorInstructionSet
import TrivisorVMM
import TrivisorX86

extension RewritingProcessor {
  /// Delivers an exception, or the double fault that comes of trying.
  /// - Returns: why the machine ends, if it does.
  func raise(_ first: GuestException) -> StopReason? {
    counters.count(.exceptionDelivered)
    var exception = first
    while true {
      if exception.vector == ExceptionVector.debug.rawValue { enterDebugHandler() }
      if let address = exception.address { control.cr2 = address }
      do throws(Interruption) {
        try EventDelivery(context: self).deliver(
          GuestEvent(
            vector: exception.vector, errorCode: exception.errorCode,
            flags: exception.setsResumeFlag ? flags.union(.resume) : flags, isSoftware: false, returnRIP: rip))
        return nil
      } catch {
        switch error {
        case .exception(let second):
          guard let next = exception.followed(by: second) else { return .tripleFault }
          exception = next
        case .stop(let reason): return reason
        case .unsupported(let name): return .crashed(crashReport("\(name) is not translated yet"))
        }
      }
    }
  }

  /// What a written state asks for before the next instruction.
  func deliverPendingEvent() -> StopReason? {
    let events = pendingEvents
    pendingEvents.exception = nil
    pendingEvents.interrupt = nil
    if let exception = events.exception {
      let address = exception.vector == ExceptionVector.pageFault.rawValue ? exception.payload : nil
      if exception.vector == ExceptionVector.debug.rawValue, let bits = exception.payload { debug.dr6 |= bits }
      return raise(GuestException(vector: exception.vector, errorCode: exception.errorCode, address: address))
    }
    if let vector = events.interrupt { return deliverEvent(vector, isSoftware: events.interruptIsSoftware) }
    if events.nonMaskablePending, !events.nonMaskableBlocked {
      pendingEvents.nonMaskablePending = false
      pendingEvents.nonMaskableBlocked = true
      return deliverEvent(ExceptionVector.nonMaskableInterrupt.rawValue, isSoftware: false)
    }
    return nil
  }

  /// An interrupt, from the chips or from a written state.
  func deliverEvent(_ vector: UInt8, isSoftware: Bool) -> StopReason? {
    counters.count(.interruptDelivered)
    do throws(Interruption) {
      try EventDelivery(context: self).deliver(
        GuestEvent(vector: vector, errorCode: nil, flags: flags, isSoftware: isSoftware, returnRIP: rip))
      return nil
    } catch {
      switch error {
      case .exception(let exception): return raise(exception)
      case .stop(let reason): return reason
      case .unsupported(let name): return .crashed(crashReport("\(name) is not translated yet"))
      }
    }
  }
}
