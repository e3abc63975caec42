// Exceptions and interrupts in real and in protected mode (AMD64 APM vol. 2, 8.6 and 8.8): the vector table of far
// pointers, and gates with frames of 16 or 32 bits.
//
// As in long mode, everything that can fail comes before anything that changes.

import InstructionSet
import VMM

/// A stack that is about to be used.
struct TargetStack {
  var segment: Segment
  var pointer: UInt64
  /// What a push beyond its limit raises.
  let fault: GuestException

  /// Width of its pointer in bytes.
  var size: Int { segment.attributes & 0x4000 != 0 ? 4 : 2 }
}

extension RewritingProcessor {
  /// Through the table of far pointers.
  func deliverReal(
    _ vector: UInt8, flags: UInt64, isSoftware: Bool, returnRIP: UInt64
  ) throws(Interruption) {
    let place = UInt64(vector) * 4
    guard place + 3 <= UInt64(system.idt.limit) else {
      throw .exception(.general(UInt32(vector) << 3 | 2 | (isSoftware ? 0 : 1)))
    }
    let target = try load(system.idt.base &+ place, size: 4, asSupervisor: true)
    guard target & 0xffff <= UInt64(system.cs.limit) else { throw .exception(.general) }
    try push([flags, UInt64(system.cs.selector), returnRIP], size: 2)
    // IF, TF, RF, AC.
    systemFlags &= ~0x5_0300
    jumpReal(UInt16(truncatingIfNeeded: target >> 16), target & 0xffff)
  }

  /// Through a gate of the legacy IDT.
  func deliverProtected(
    _ vector: UInt8, errorCode: UInt32?, flags: UInt64, isSoftware: Bool, returnRIP: UInt64
  ) throws(Interruption) {
    let external: UInt32 = isSoftware ? 0 : 1
    let gateCode = UInt32(vector) << 3 | 2 | external
    let place = UInt64(vector) * 8
    guard place + 7 <= UInt64(system.idt.limit) else { throw .exception(.general(gateCode)) }
    let gate = try load(system.idt.base &+ place, size: 8, asSupervisor: true)
    let type = gate >> 40 & 0x1f
    switch type {
    case 5, 6, 7, 14, 15: break
    default: throw .exception(.general(gateCode))
    }
    if isSoftware, gate >> 45 & 3 < UInt64(cpl) { throw .exception(.general(gateCode)) }
    guard gate >> 47 & 1 != 0 else { throw .exception(.notPresent(gateCode)) }
    if type == 5 { throw .unsupported("a task gate") }
    let isWide = type & 8 != 0
    let target = gate & 0xffff | (isWide ? gate >> 32 & 0xffff_0000 : 0)
    let selector = UInt16(truncatingIfNeeded: gate >> 16)
    let code = UInt32(selector & 0xfffc) | external
    guard selector & 0xfffc != 0 else { throw .exception(.general(external)) }
    let descriptor = try descriptor(selector, errorCode: code)
    guard descriptor.isCode, descriptor.privilege <= cpl else { throw .exception(.general(code)) }
    guard descriptor.isPresent else { throw .exception(.notPresent(code)) }
    let privilege = descriptor.isConforming ? cpl : descriptor.privilege
    let changesStack = privilege != cpl
    let stack =
      changesStack
      ? try innerStack(privilege, external: external)
      : TargetStack(segment: system.ss, pointer: general(.rsp), fault: .stack(external))
    guard target <= UInt64(descriptor.limit) else { throw .exception(.general(external)) }
    var frame = [flags, UInt64(system.cs.selector), returnRIP]
    if changesStack { frame = [UInt64(system.ss.selector), general(.rsp)] + frame }
    if let errorCode { frame.append(UInt64(errorCode)) }
    try mark(selector, bit: 1)
    let pointer = try store(frame, size: isWide ? 4 : 2, on: stack, privilege: privilege)
    control.stack = stack.segment
    setGeneral(.rsp, pointer, size: stack.size)
    var segment = descriptor.segment(selector & 0xfffc | UInt16(privilege))
    segment.attributes |= 1
    control.code = segment
    rip = target
    // TF, NT, RF, VM; and IF for an interrupt gate.
    systemFlags &= ~0x3_4100
    if type & 1 == 0 { systemFlags &= ~0x200 }
  }

  /// Pushes with the rights of `privilege`, which is CPL from then on.
  /// - Returns: the new stack pointer.
  func store(
    _ frame: [UInt64], size: Int, on stack: TargetStack, privilege: UInt8
  ) throws(Interruption) -> UInt64 {
    let oldPrivilege = cpl
    cpl = privilege
    do throws(Interruption) {
      var places: [UInt64] = []
      var pointer = stack.pointer
      for _ in frame {
        pointer = Self.cut(pointer &- UInt64(size), to: stack.size)
        try checkSegment(stack.segment, pointer, size: size, isWrite: true, fault: stack.fault)
        let place = (pointer &+ stack.segment.base) & 0xffff_ffff
        _ = try locate(place, count: size, .write, isStack: true)
        places.append(place)
      }
      for (place, value) in zip(places, frame) { try save(place, value, size: size, isStack: true) }
      return pointer
    } catch {
      cpl = oldPrivilege
      throw error
    }
  }

  /// The stack that the TSS holds for a privilege.
  func innerStack(_ privilege: UInt8, external: UInt32) throws(Interruption) -> TargetStack {
    // 32-bit TSS: ESP and SS from offset 4; 16-bit TSS: SP and SS from 2.
    let isWide = system.task.attributes & 8 != 0
    let place = isWide ? 4 + 8 * UInt64(privilege) : 2 + 4 * UInt64(privilege)
    guard place + (isWide ? 5 : 3) <= UInt64(system.task.limit) else {
      throw .exception(.invalidTask(UInt32(system.task.selector & 0xfffc) | external))
    }
    let base = system.task.base &+ place
    let pointer = try load(base, size: isWide ? 4 : 2, asSupervisor: true)
    let selector = UInt16(truncatingIfNeeded: try load(base &+ (isWide ? 4 : 2), size: 2, asSupervisor: true))
    guard selector & 0xfffc != 0 else { throw .exception(.invalidTask(external)) }
    let code = UInt32(selector & 0xfffc) | external
    let found = try descriptor(selector, outside: .invalidTask(code))
    guard UInt8(selector & 3) == privilege, found.privilege == privilege, !found.isSystem, !found.isCode,
      found.hasAccess
    else { throw .exception(.invalidTask(code)) }
    guard found.isPresent else { throw .exception(.stack(code)) }
    try mark(selector, bit: 1)
    var segment = found.segment(selector)
    segment.attributes |= 1
    return TargetStack(segment: segment, pointer: pointer, fault: .stack(code))
  }
}
