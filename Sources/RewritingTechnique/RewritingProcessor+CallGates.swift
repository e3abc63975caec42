// Call gates (AMD64 APM vol. 2, 4.11.2): a far call or jump whose selector names a gate goes where the gate says, and a
// call may gain privilege on the way. It then runs on the stack that the TSS has for the inner level, to which the old
// stack's address and, outside long mode, parameters have been copied.

import InstructionSet
import VMM
import X86

/// What a call gate says.
struct CallGate {
  let descriptor: Descriptor

  var selector: UInt16 { UInt16(truncatingIfNeeded: descriptor.low >> 16) }
  /// Of what is pushed, in bytes, outside long mode.
  var size: Int { descriptor.type == 12 ? 4 : 2 }
  var parameterCount: Int { Int(descriptor.low >> 32 & 31) }

  var offset: UInt64 {
    let low = descriptor.low & 0xffff | (descriptor.type == 12 ? descriptor.low >> 32 & 0xffff_0000 : 0)
    return low | descriptor.high << 32
  }
}

extension RewritingProcessor {
  /// The gate that a selector names, or `nil` if it is not one's.
  func callGate(_ selector: UInt16) throws(Interruption) -> CallGate? {
    let code = UInt32(selector & 0xfffc)
    guard code != 0 else { return nil }
    let found = try descriptor(selector, errorCode: code)
    guard found.isSystem, found.type == 12 || (found.type == 4 && !isLongMode) else { return nil }
    guard found.privilege >= cpl, found.privilege >= UInt8(selector & 3) else { throw .exception(.general(code)) }
    guard found.isPresent else { throw .exception(.notPresent(code)) }
    return CallGate(descriptor: isLongMode ? try descriptor(selector, errorCode: code, isWide: true) : found)
  }

  /// The code segment behind a gate. A jump keeps its privilege.
  private func target(of gate: CallGate, isCall: Bool) throws(Interruption) -> Descriptor {
    let code = UInt32(gate.selector & 0xfffc)
    guard code != 0 else { throw .exception(.general) }
    let found = try descriptor(gate.selector, errorCode: code)
    guard found.isCode, found.privilege <= cpl, isCall || found.isConforming || found.privilege == cpl else {
      throw .exception(.general(code))
    }
    if isLongMode, !found.isLong || found.isDefault32 { throw .exception(.general(code)) }
    guard found.isPresent else { throw .exception(.notPresent(code)) }
    if isLongMode {
      guard LinearAddress.isCanonical(gate.offset) else { throw .exception(.general) }
    } else if gate.offset > UInt64(found.limit) {
      throw .exception(.general)
    }
    return found
  }

  private func enter(_ target: Descriptor, through gate: CallGate) {
    var code = target.segment(gate.selector & 0xfffc | UInt16(cpl))
    code.attributes |= 1
    control.code = code
    rip = gate.offset
  }

  func jump(through gate: CallGate) throws(Interruption) {
    let target = try target(of: gate, isCall: false)
    try mark(gate.selector, bit: 1)
    enter(target, through: gate)
  }

  /// RIP is the next instruction's.
  func call(through gate: CallGate) throws(Interruption) {
    let target = try target(of: gate, isCall: true)
    let privilege = target.isConforming ? cpl : target.privilege
    try mark(gate.selector, bit: 1)
    if isLongMode {
      try pushLong(privilege)
    } else {
      try pushLegacy(privilege, gate)
    }
    enter(target, through: gate)
  }

  private func pushLong(_ privilege: UInt8) throws(Interruption) {
    let isInner = privilege != cpl
    let stack = isInner ? try taskStack(4 + 8 * UInt64(privilege)) : general(.rsp)
    var frame = [rip, UInt64(system.cs.selector)]
    if isInner { frame += [general(.rsp), UInt64(system.ss.selector)] }
    let base = stack &- UInt64(8 * frame.count)
    for index in 0..<frame.count {
      _ = try locate(base &+ UInt64(8 * index), count: 8, .write, isStack: true, asSupervisor: privilege != 3)
    }
    for (index, value) in frame.enumerated() {
      try save(base &+ UInt64(8 * index), value, size: 8, isStack: true, asSupervisor: privilege != 3)
    }
    setGeneral(.rsp, base)
    guard isInner else { return }
    cpl = privilege
    var null = Segment(selector: UInt16(privilege), base: 0, limit: .max, attributes: 0xc093, isUnusable: true)
    null.attributes |= UInt16(privilege) << 5
    control.stack = null
  }

  private func pushLegacy(_ privilege: UInt8, _ gate: CallGate) throws(Interruption) {
    let frame = [UInt64(system.cs.selector), rip]
    guard privilege != cpl else {
      try push(frame, size: gate.size)
      return
    }
    var parameters: [UInt64] = []
    for index in 0..<gate.parameterCount { parameters.append(try peek(UInt64(index * gate.size), size: gate.size)) }
    let stack = try innerStack(privilege, external: 0)
    let old = [UInt64(system.ss.selector), general(.rsp)]
    let pointer = try store(old + parameters.reversed() + frame, size: gate.size, on: stack, privilege: privilege)
    control.stack = stack.segment
    setGeneral(.rsp, pointer, size: stack.size)
  }
}
