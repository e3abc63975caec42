import TrivisorInstructionSet
import TrivisorVMM
import TrivisorX86

/// Transfers that load CS: far jumps, calls and returns, and IRET (AMD64 APM vol. 2, 4.11; vol. 3 for each instruction).
struct FarTransfer<Context: SystemContext> {
  let context: Context
  /// RIP of the instruction behind it: where a call returns to.
  let next: UInt64

  private func checkRealTarget(_ offset: UInt64) throws(Interruption) {
    guard offset <= UInt64(context.segment(.cs).limit) else { throw .exception(.general) }
  }

  private func checkTarget(_ offset: UInt64, in target: Segment) throws(Interruption) {
    if context.isLongMode, target.rights.contains(.long) {
      guard LinearAddress.isCanonical(offset) else { throw .exception(.general) }
    } else if offset > UInt64(target.limit) {
      throw .exception(.general)
    }
  }

  func jump(_ selector: UInt16, _ offset: UInt64) throws(Interruption) {
    guard context.usesDescriptors else {
      try checkRealTarget(offset)
      context.enterReal(selector, offset)
      return
    }
    let selector = Selector(rawValue: selector)
    let gates = CallGateTransfer(context: context, next: next)
    if let gate = try gates.gate(selector) {
      try gates.jump(through: gate)
      return
    }
    if let task = try task(selector) {
      try switchTask(.jump).perform(task)
      return
    }
    let target = try codeSegment(selector)
    try checkTarget(offset, in: target)
    context.setSegment(.cs, target)
    context.rip = offset
  }

  func call(_ selector: UInt16, _ offset: UInt64, size: Int) throws(Interruption) {
    guard context.usesDescriptors else {
      try checkRealTarget(offset)
      try context.push([UInt64(context.segment(.cs).selector), next], size: size)
      context.enterReal(selector, offset)
      return
    }
    let selector = Selector(rawValue: selector)
    let gates = CallGateTransfer(context: context, next: next)
    if let gate = try gates.gate(selector) {
      try gates.call(through: gate)
      return
    }
    if let task = try task(selector) {
      try switchTask(.call).perform(task)
      return
    }
    let target = try codeSegment(selector)
    // The mode of the target decides how the stack is addressed; its limit is looked at last.
    let (old, pointer) = (context.segment(.cs), context[.rsp])
    context.setSegment(.cs, target)
    do throws(Interruption) {
      try context.push([UInt64(old.selector), next], size: size)
      try checkTarget(offset, in: target)
    } catch {
      context.setSegment(.cs, old)
      context[.rsp] = pointer
      throw error
    }
    context.rip = offset
  }

  /// Checks a code segment for a far jump or call without a gate.
  private func codeSegment(_ selector: Selector) throws(Interruption) -> Segment {
    guard !selector.isNull else { throw .exception(.general) }
    let found = try context.descriptor(selector)
    let (code, cpl) = (selector.errorCode, context.cpl)
    guard found.isCode else { throw .exception(.general(code)) }
    if found.isConforming {
      guard found.privilege <= cpl else { throw .exception(.general(code)) }
    } else {
      guard selector.requestedPrivilege <= cpl, found.privilege == cpl else { throw .exception(.general(code)) }
    }
    guard found.isPresent else { throw .exception(.notPresent(code)) }
    if context.isLongMode, found.isReservedLong { throw .exception(.general(code)) }
    try context.mark(selector, found)
    return found.accessedSegment(selector.with(privilege: cpl))
  }

  /// The TSS that a selector names, itself or by a task gate; `nil` if it names none. Long mode has no task switches.
  private func task(_ selector: Selector) throws(Interruption) -> Selector? {
    guard !selector.isNull, !context.isLongMode else { return nil }
    let found = try context.descriptor(selector)
    let isGate = found.systemType == .taskGate
    switch found.systemType {
    case .taskGate?, .availableTask?, .availableTask16?, .busyTask?, .busyTask16?: break
    default: return nil
    }
    let code = selector.errorCode
    guard found.privilege >= max(context.cpl, selector.requestedPrivilege) else { throw .exception(.general(code)) }
    guard isGate else { return selector }
    guard found.isPresent else { throw .exception(.notPresent(code)) }
    return found.gateSelector
  }

  private func switchTask(_ cause: TaskSwitch<Context>.Cause) -> TaskSwitch<Context> {
    TaskSwitch(context: context, cause: cause, next: next, flags: context.flags.subtracting(.resume))
  }
}

extension InstructionContext {
  /// CS and RIP in real mode. Limit and rights of CS stay.
  func enterReal(_ selector: UInt16, _ offset: UInt64) {
    var code = segment(.cs)
    code.selector = selector
    code.base = UInt64(selector) << 4
    setSegment(.cs, code)
    rip = offset
  }
}
