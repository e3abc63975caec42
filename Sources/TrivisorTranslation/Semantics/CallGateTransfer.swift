// Call gates (AMD64 APM vol. 2, 4.11.2): a far call or jump whose selector names a gate goes where the gate says, and a
// call may gain privilege on the way. It then runs on the stack that the TSS has for the inner level, to which the old
// stack's address and, outside long mode, parameters have been copied.

import TrivisorInstructionSet
import TrivisorVMM
import TrivisorX86

struct CallGateTransfer<Context: InstructionContext> {
  let context: Context
  /// RIP of the instruction behind it: where a call returns to.
  let next: UInt64

  /// The gate that a selector names, or `nil` if it is not one's.
  func gate(_ selector: Selector) throws(Interruption) -> Descriptor? {
    guard !selector.isNull else { return nil }
    let found = try context.descriptor(selector)
    let isLong = context.isLongMode
    guard let type = found.systemType, type == .callGate || (type == .callGate16 && !isLong) else { return nil }
    let code = selector.errorCode
    guard found.privilege >= context.cpl, found.privilege >= selector.requestedPrivilege else {
      throw .exception(.general(code))
    }
    guard found.isPresent else { throw .exception(.notPresent(code)) }
    return isLong ? try context.descriptor(selector, isWide: true) : found
  }

  /// Of what is pushed, in bytes, outside long mode.
  private func size(_ gate: Descriptor) -> Int { gate.systemType == .callGate ? 4 : 2 }

  /// A gate of 16 bits says nothing of the offset's upper half.
  private func offset(_ gate: Descriptor) -> UInt64 {
    gate.systemType == .callGate ? gate.gateOffset : gate.gateOffset & 0xffff
  }

  /// The code segment behind a gate. A jump keeps its privilege.
  private func target(of gate: Descriptor, isCall: Bool) throws(Interruption) -> Descriptor {
    let selector = gate.gateSelector
    let (code, cpl, isLong) = (selector.errorCode, context.cpl, context.isLongMode)
    guard !selector.isNull else { throw .exception(.general) }
    let found = try context.descriptor(selector)
    guard found.isCode, found.privilege <= cpl, isCall || found.isConforming || found.privilege == cpl else {
      throw .exception(.general(code))
    }
    if isLong, !found.isLong || found.isReservedLong { throw .exception(.general(code)) }
    guard found.isPresent else { throw .exception(.notPresent(code)) }
    if isLong {
      guard LinearAddress.isCanonical(offset(gate)) else { throw .exception(.general) }
    } else if offset(gate) > UInt64(found.limit) {
      throw .exception(.general)
    }
    return found
  }

  private func enter(_ target: Descriptor, through gate: Descriptor) {
    context.setSegment(.cs, target.accessedSegment(gate.gateSelector.with(privilege: context.cpl)))
    context.rip = offset(gate)
  }

  func jump(through gate: Descriptor) throws(Interruption) {
    let target = try target(of: gate, isCall: false)
    try context.mark(gate.gateSelector, target)
    enter(target, through: gate)
  }

  func call(through gate: Descriptor) throws(Interruption) {
    let target = try target(of: gate, isCall: true)
    let privilege = target.isConforming ? context.cpl : target.privilege
    try context.mark(gate.gateSelector, target)
    if context.isLongMode {
      try pushLong(privilege)
    } else {
      try pushLegacy(privilege, gate)
    }
    enter(target, through: gate)
  }

  private func pushLong(_ privilege: UInt8) throws(Interruption) {
    let isInner = privilege != context.cpl
    let stack = isInner ? try InnerStack(context: context).pointer64(privilege) : context[.rsp]
    let frame: InlineArray<4, UInt64> = [
      next, UInt64(context.segment(.cs).selector), context[.rsp], UInt64(context.segment(.ss).selector),
    ]
    let count = isInner ? 4 : 2
    let base = stack &- UInt64(8 * count)
    for index in 0..<count {
      try context.check(
        base &+ UInt64(8 * index), count: 8, .write, isStack: true, asSupervisor: privilege != 3)
    }
    for index in 0..<count {
      try context.save(
        base &+ UInt64(8 * index), frame[index], size: 8, isStack: true, asSupervisor: privilege != 3)
    }
    context[.rsp] = base
    guard isInner else { return }
    context.cpl = privilege
    context.setSegment(.ss, .nullStack(UInt16(privilege), privilege: privilege))
  }

  private func pushLegacy(_ privilege: UInt8, _ gate: Descriptor) throws(Interruption) {
    let size = size(gate)
    let code = UInt64(context.segment(.cs).selector)
    guard privilege != context.cpl else {
      try context.push([code, next], size: size)
      return
    }
    let count = Int(gate.low.parameterCount)
    var parameters = InlineArray<31, UInt64>(repeating: 0)
    for index in 0..<count { parameters[index] = try context.peek(UInt64(index * size), size: size) }
    let stacks = InnerStack(context: context)
    let stack = try stacks.legacy(privilege, external: 0)
    var frame = StackFrame<35>()
    frame.append(UInt64(context.segment(.ss).selector))
    frame.append(context[.rsp])
    for index in stride(from: count - 1, through: 0, by: -1) { frame.append(parameters[index]) }
    frame.append(code)
    frame.append(next)
    let pointer = try stacks.push(frame, size: size, on: stack, privilege: privilege)
    context.setSegment(.ss, stack.segment)
    context.setGeneral(.rsp, pointer, size: stack.size)
  }
}
