import TrivisorInstructionSet
import TrivisorVMM
import TrivisorX86

/// Transfers that load CS: far jumps, calls and returns, and IRET (AMD64 APM vol. 2, 4.11; vol. 3 for each instruction).
struct FarTransfer<Context: InstructionContext> {
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
    guard context.isProtected else {
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
    let target = try codeSegment(selector)
    try checkTarget(offset, in: target)
    context.setSegment(.cs, target)
    context.rip = offset
  }

  func call(_ selector: UInt16, _ offset: UInt64, size: Int) throws(Interruption) {
    guard context.isProtected else {
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
    if found.isSystem { throw try refusal(of: found, selector) }
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

  /// Why a system descriptor is no target: a task would be, but hardware's task switch is not carried out.
  private func refusal(of found: Descriptor, _ selector: Selector) throws(Interruption) -> Interruption {
    let code = selector.errorCode
    guard let type = found.systemType, type == .availableTask || type == .availableTask16 || type == .taskGate,
      !context.isLongMode, found.privilege >= context.cpl, found.privilege >= selector.requestedPrivilege
    else { return .exception(.general(code)) }
    guard found.isPresent else { return .exception(.notPresent(code)) }
    if type == .taskGate { return .unsupported("a task gate") }
    let last = type.isWide ? TaskStateSegment.lastByte : TaskStateSegment.lastByte16
    return found.limit >= last ? .unsupported("a task switch") : .exception(.invalidTask(code))
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
