// What waits for the processor, between two instructions, and what becomes of it.
//
// `hasEvent` is the question wherever Swift gets to ask it: after a call-out, after a store to a device, and before blocks are
// run, which a kick from another thread leads to. If the answer is yes, whoever runs the processor takes the event. Behind STI
// and MOV SS it must wait for one instruction: that one is run by itself (`stepsOnce`).

import TrivisorVMM
import TrivisorX86

extension TranslatedProcessor {
  /// Whether there is something that the processor may take at this point, but for a shadow.
  package var hasEvent: Bool {
    let waiting = surroundings.waiting
    if waiting.rawValue == 0 { return false }
    var wanted = WaitingEvents.other
    if flags.contains(.interrupt) { wanted.insert(.interrupt) }
    if !pendingEvents.nonMaskableBlocked { wanted.insert(.nonMaskable) }
    return waiting.rawValue & wanted.rawValue != 0
  }

  /// Whether translated code must be left at this point.
  var mustReturn: Bool { stop.isRequested || hasEvent }
}
