// Exceptions and interrupts on their way to the guest's handlers: IDT gates, the change of privilege and stack, the
// frame, double and triple faults (AMD64 APM vol. 2, 8.7 to 8.9).

import InstructionSet
import VMM
import X86

extension RewritingProcessor {
  /// Delivers an exception, or the double fault that comes of trying.
  /// - Returns: why the machine ends, if it does.
  func raise(_ first: GuestException) -> StopReason? {
    counters.count(.exceptionDelivered)
    var exception = first
    while true {
      if exception.vector == 1 { enterDebugHandler() }
      if let address = exception.address { control.cr2 = address }
      let resume = exception.setsResumeFlag ? Self.resumeFlag : 0
      do throws(Interruption) {
        try deliver(
          exception.vector, errorCode: exception.errorCode, flags: rflags | resume, isSoftware: false, returnRIP: rip)
        return nil
      } catch {
        switch error {
        case .exception(let second):
          if exception.vector == 8 { return .tripleFault }
          let isDouble =
            (exception.isContributory && second.isContributory)
            || (exception.isPageFault && (second.isContributory || second.isPageFault))
          exception = isDouble ? .doubleFault : second
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
      let address = exception.vector == 14 ? exception.payload : nil
      if exception.vector == 1, let bits = exception.payload { debug.dr6 |= bits }
      return raise(GuestException(vector: exception.vector, errorCode: exception.errorCode, address: address))
    }
    if let vector = events.interrupt { return deliverEvent(vector, isSoftware: events.interruptIsSoftware) }
    if events.nonMaskablePending, !events.nonMaskableBlocked {
      pendingEvents.nonMaskablePending = false
      pendingEvents.nonMaskableBlocked = true
      return deliverEvent(2, isSoftware: false)
    }
    return nil
  }

  /// An interrupt, from the chips or from a written state.
  func deliverEvent(_ vector: UInt8, isSoftware: Bool) -> StopReason? {
    counters.count(.interruptDelivered)
    do throws(Interruption) {
      try deliver(vector, errorCode: nil, flags: rflags, isSoftware: isSoftware, returnRIP: rip)
      return nil
    } catch {
      switch error {
      case .exception(let exception): return raise(exception)
      case .stop(let reason): return reason
      case .unsupported(let name): return .crashed(crashReport("\(name) is not translated yet"))
      }
    }
  }

  /// Goes through the IDT. Nothing has changed when it throws.
  func deliver(
    _ vector: UInt8, errorCode: UInt32?, flags: UInt64, isSoftware: Bool, returnRIP: UInt64
  ) throws(Interruption) {
    let source = rip
    if system.cr0 & 1 == 0 {
      try deliverReal(vector, flags: flags, isSoftware: isSoftware, returnRIP: returnRIP)
    } else if !isLongMode {
      try deliverProtected(
        vector, errorCode: errorCode, flags: flags, isSoftware: isSoftware, returnRIP: returnRIP)
    } else {
      try deliverLong(
        vector, errorCode: errorCode, flags: flags, isSoftware: isSoftware, returnRIP: returnRIP)
    }
    shadow = .none
    if vector != 1 { branchRecord.noteInterrupt(from: source, to: rip) }
  }

  private func deliverLong(
    _ vector: UInt8, errorCode: UInt32?, flags: UInt64, isSoftware: Bool, returnRIP: UInt64
  ) throws(Interruption) {
    // What an error code about the gate says: the vector, that it is of the IDT, and whether it came from outside.
    let external: UInt32 = isSoftware ? 0 : 1
    let gateCode = UInt32(vector) << 3 | 2 | external
    let offset = UInt64(vector) * 16
    guard offset + 15 <= UInt64(system.idt.limit) else { throw .exception(.general(gateCode)) }
    let low = try load(system.idt.base &+ offset, size: 8, asSupervisor: true)
    let high = try load(system.idt.base &+ offset &+ 8, size: 8, asSupervisor: true)
    let type = low >> 40 & 0x1f
    guard type == 0xe || type == 0xf else { throw .exception(.general(gateCode)) }
    if isSoftware, low >> 45 & 3 < UInt64(cpl) { throw .exception(.general(gateCode)) }
    guard low >> 47 & 1 != 0 else { throw .exception(.notPresent(gateCode)) }
    let target = low & 0xffff | low >> 32 & 0xffff_0000 | high << 32
    let selector = UInt16(truncatingIfNeeded: low >> 16)
    let code = UInt32(selector & 0xfffc)
    guard code != 0 else { throw .exception(.general(external)) }
    let descriptor = try descriptor(selector, errorCode: code | external)
    guard descriptor.isCode else { throw .exception(.general(code | external)) }
    let privilege = descriptor.privilege
    guard privilege <= cpl else { throw .exception(.general(code | external)) }
    guard descriptor.isPresent else { throw .exception(.notPresent(code | external)) }
    guard descriptor.isLong, !descriptor.isDefault32 else { throw .exception(.general(code | external)) }
    let newPrivilege = descriptor.isConforming ? cpl : privilege
    let stackTable = low >> 32 & 7
    var stack: UInt64
    let changesStack = newPrivilege != cpl
    if stackTable != 0 {
      stack = try taskStack(0x24 + 8 * (stackTable - 1))
    } else if changesStack {
      stack = try taskStack(4 + 8 * UInt64(newPrivilege))
    } else {
      stack = general(.rsp)
    }
    stack &= ~15
    guard LinearAddress.isCanonical(target) else { throw .exception(.general(external)) }
    // Pushes are with the new privilege; all are checked before any is made.
    let oldPrivilege = cpl
    let count = errorCode == nil ? 5 : 6
    let base = stack &- UInt64(8 * count)
    cpl = newPrivilege
    let pieces: (first: UInt64, firstCount: Int, second: UInt64, secondCount: Int)
    do throws(Interruption) {
      pieces = try locate(base, count: 8 * count, .write, isStack: true, asSupervisor: newPrivilege != 3)
    } catch {
      cpl = oldPrivilege
      throw error
    }
    var frame: [UInt64] = [
      returnRIP, UInt64(system.cs.selector), flags, general(.rsp), UInt64(system.ss.selector),
    ]
    if let errorCode { frame.insert(UInt64(errorCode), at: 0) }
    let reason = frame.withUnsafeBytes { bytes -> StopReason? in
      guard let source = bytes.baseAddress else { return nil }
      let first = writePhysical(pieces.first, from: source, count: pieces.firstCount)
      let second = writePhysical(pieces.second, from: source + pieces.firstCount, count: pieces.secondCount)
      return first ?? second
    }
    if let reason { throw .stop(reason) }
    setGeneral(.rsp, base)
    if changesStack {
      var null = Segment(selector: UInt16(newPrivilege), base: 0, limit: .max, attributes: 0xc093, isUnusable: true)
      null.attributes = null.attributes & ~0x60 | UInt16(newPrivilege) << 5
      control.stack = null
    }
    control.code = descriptor.segment(selector & 0xfffc | UInt16(newPrivilege))
    rip = target
    // TF, NT, RF, VM; and IF for an interrupt gate.
    systemFlags &= ~(0x100 | 0x4000 | 0x1_0000 | 0x2_0000)
    if type == 0xe { systemFlags &= ~0x200 }
  }

  func taskStack(_ offset: UInt64) throws(Interruption) -> UInt64 {
    guard offset + 7 <= UInt64(system.task.limit) else {
      throw .exception(.invalidTask(UInt32(system.task.selector & 0xfffc)))
    }
    let stack = try load(system.task.base &+ offset, size: 8, asSupervisor: true)
    guard LinearAddress.isCanonical(stack) else { throw .exception(.stack(0)) }
    return stack
  }
}
