// Segment registers and the transfers that load CS (AMD64 APM vol. 2, chapter 4; vol. 3 for each instruction).

import InstructionSet
import VMM
import X86

/// An 8-byte descriptor, or a 16-byte one of a system segment in long mode.
struct Descriptor {
  let low: UInt64
  var high: UInt64 = 0

  var type: UInt8 { UInt8(truncatingIfNeeded: low >> 40 & 15) }
  var isSystem: Bool { low >> 44 & 1 == 0 }
  var isCode: Bool { !isSystem && type & 8 != 0 }
  var isConforming: Bool { type & 4 != 0 }
  /// Code that may be read, data that may be written.
  var hasAccess: Bool { type & 2 != 0 }
  var privilege: UInt8 { UInt8(truncatingIfNeeded: low >> 45 & 3) }
  var isPresent: Bool { low >> 47 & 1 != 0 }
  var isLong: Bool { low >> 53 & 1 != 0 }
  var isDefault32: Bool { low >> 54 & 1 != 0 }
  var base: UInt64 { low >> 16 & 0xff_ffff | low >> 32 & 0xff00_0000 | high << 32 }

  var limit: UInt32 {
    let limit = UInt32(truncatingIfNeeded: low & 0xffff | low >> 32 & 0xf_0000)
    return low >> 55 & 1 != 0 ? limit << 12 | 0xfff : limit
  }

  func segment(_ selector: UInt16) -> Segment {
    Segment(
      selector: selector, base: base, limit: limit,
      attributes: UInt16(truncatingIfNeeded: low >> 40 & 0xff | low >> 40 & 0xf000))
  }
}

extension RewritingProcessor {
  var isLongMode: Bool { control.isLongMode }

  /// Reads a descriptor; `errorCode` is what #GP says if it lies outside its table.
  func descriptor(_ selector: UInt16, errorCode: UInt32, isWide: Bool = false) throws(Interruption) -> Descriptor {
    try descriptor(selector, outside: .general(errorCode), isWide: isWide)
  }

  func descriptor(
    _ selector: UInt16, outside: GuestException, isWide: Bool = false
  ) throws(Interruption) -> Descriptor {
    let isLocal = selector & 4 != 0
    if isLocal, system.ldt.selector & 0xfffc == 0 { throw .exception(outside) }
    let base = isLocal ? system.ldt.base : system.gdt.base
    let limit = isLocal ? system.ldt.limit : UInt32(system.gdt.limit)
    let offset = UInt64(selector & 0xfff8)
    guard offset + (isWide ? 15 : 7) <= UInt64(limit) else { throw .exception(outside) }
    var found = Descriptor(low: try load(base &+ offset, size: 8, asSupervisor: true))
    if isWide { found.high = try load(base &+ offset &+ 8, size: 8, asSupervisor: true) & 0xffff_ffff }
    return found
  }

  /// Sets the accessed bit of a code or data descriptor, the busy bit of a TSS.
  func mark(_ selector: UInt16, bit: UInt64) throws(Interruption) {
    let base = selector & 4 != 0 ? system.ldt.base : system.gdt.base
    let place = base &+ UInt64(selector & 0xfff8) &+ 5
    let value = try load(place, size: 1, asSupervisor: true)
    if value & bit == 0 { try save(place, value | bit, size: 1, asSupervisor: true) }
  }

  func segment(_ register: SegmentRegister) -> Segment { control.segment(register) }

  func setSegment(_ register: SegmentRegister, _ value: Segment) { control.setSegment(register, value) }

  /// MOV and POP to a segment register other than CS.
  func loadSegment(_ register: SegmentRegister, _ selector: UInt16) throws(Interruption) {
    guard system.cr0 & 1 != 0 else {
      var value = segment(register)
      // Limit and rights stay: "unreal mode" lives on it.
      value.selector = selector
      value.base = UInt64(selector) << 4
      value.isUnusable = false
      setSegment(register, value)
      return
    }
    let code = UInt32(selector & 0xfffc)
    if code == 0 {
      if register == .ss {
        guard is64, cpl != 3, UInt8(selector & 3) == cpl else { throw .exception(.general) }
        var value = Segment(selector: selector, base: 0, limit: .max, attributes: 0xc093, isUnusable: true)
        value.attributes |= UInt16(cpl) << 5
        setSegment(.ss, value)
        return
      }
      // AMD keeps the base of a register into which a null selector is loaded (AMD64 APM vol. 2, 4.5.3).
      var value = segment(register)
      value.selector = selector
      value.isUnusable = true
      setSegment(register, value)
      return
    }
    let found = try descriptor(selector, errorCode: code)
    let requested = UInt8(selector & 3)
    if register == .ss {
      guard requested == cpl, !found.isSystem, !found.isCode, found.hasAccess, found.privilege == cpl else {
        throw .exception(.general(code))
      }
      guard found.isPresent else { throw .exception(.stack(code)) }
    } else {
      guard !found.isSystem, !found.isCode || found.hasAccess else { throw .exception(.general(code)) }
      if !(found.isCode && found.isConforming), requested > found.privilege || cpl > found.privilege {
        throw .exception(.general(code))
      }
      guard found.isPresent else { throw .exception(.notPresent(code)) }
    }
    try mark(selector, bit: 1)
    var value = found.segment(selector)
    value.attributes |= 1
    setSegment(register, value)
  }

  /// LLDT and LTR.
  func loadSystemSegment(_ selector: UInt16, isTask: Bool) throws(Interruption) {
    let code = UInt32(selector & 0xfffc)
    if code == 0 {
      if isTask { throw .exception(.general) }
      control.localTable = Segment(selector: selector, base: 0, limit: 0, attributes: 0, isUnusable: true)
      return
    }
    guard selector & 4 == 0 else { throw .exception(.general(code)) }
    let found = try descriptor(selector, errorCode: code, isWide: isLongMode)
    let isRight = isTask ? found.type == 9 || (found.type == 1 && !isLongMode) : found.type == 2
    guard found.isSystem, isRight else { throw .exception(.general(code)) }
    guard found.isPresent else { throw .exception(.notPresent(code)) }
    if isLongMode, !LinearAddress.isCanonical(found.base) { throw .exception(.general(code)) }
    if isTask {
      try mark(selector, bit: 2)
      var task = found.segment(selector)
      task.attributes |= 2
      control.task = task
    } else {
      control.localTable = found.segment(selector)
    }
  }

  /// Checks a code segment for a far jump or call without a gate.
  func farCodeSegment(_ selector: UInt16) throws(Interruption) -> Segment {
    let code = UInt32(selector & 0xfffc)
    guard code != 0 else { throw .exception(.general) }
    let found = try descriptor(selector, errorCode: code)
    if found.isSystem {
      switch found.type {
      case 1, 9, 5:
        if isLongMode { throw .exception(.general(code)) }
        guard found.privilege >= cpl, found.privilege >= UInt8(selector & 3) else {
          throw .exception(.general(code))
        }
        guard found.isPresent else { throw .exception(.notPresent(code)) }
        if found.type == 5 { throw .unsupported("a task gate") }
        guard found.limit >= (found.type == 9 ? 0x67 : 0x2b) else { throw .exception(.invalidTask(code)) }
        throw .unsupported("a task switch")
      default: throw .exception(.general(code))
      }
    }
    guard found.isCode else { throw .exception(.general(code)) }
    if found.isConforming {
      guard found.privilege <= cpl else { throw .exception(.general(code)) }
    } else {
      guard UInt8(selector & 3) <= cpl, found.privilege == cpl else { throw .exception(.general(code)) }
    }
    guard found.isPresent else { throw .exception(.notPresent(code)) }
    if isLongMode, found.isLong, found.isDefault32 { throw .exception(.general(code)) }
    try mark(selector, bit: 1)
    var value = found.segment(selector & 0xfffc | UInt16(cpl))
    value.attributes |= 1
    return value
  }

  /// CS and RIP in real mode. Limit and rights of CS stay.
  func jumpReal(_ selector: UInt16, _ offset: UInt64) {
    var code = control.code
    code.selector = selector
    code.base = UInt64(selector) << 4
    control.code = code
    rip = offset
  }

  func farJump(_ selector: UInt16, _ offset: UInt64) throws(Interruption) {
    guard system.cr0 & 1 != 0 else {
      guard offset <= UInt64(system.cs.limit) else { throw .exception(.general) }
      jumpReal(selector, offset)
      return
    }
    if let gate = try callGate(selector) {
      try jump(through: gate)
      return
    }
    let target = try farCodeSegment(selector)
    try checkTarget(offset, in: target)
    setSegment(.cs, target)
    rip = offset
  }

  func farCall(_ selector: UInt16, _ offset: UInt64, size: Int) throws(Interruption) {
    guard system.cr0 & 1 != 0 else {
      guard offset <= UInt64(system.cs.limit) else { throw .exception(.general) }
      try push([UInt64(system.cs.selector), rip], size: size)
      jumpReal(selector, offset)
      return
    }
    if let gate = try callGate(selector) {
      try call(through: gate)
      return
    }
    let target = try farCodeSegment(selector)
    // The mode of the target decides how the stack is addressed; its limit is looked at last.
    let (old, pointer) = (system.cs, general(.rsp))
    control.code = target
    do throws(Interruption) {
      try push([UInt64(old.selector), rip], size: size)
      try checkTarget(offset, in: target)
    } catch {
      control.code = old
      setGeneral(.rsp, pointer)
      throw error
    }
    rip = offset
  }

  private func checkTarget(_ offset: UInt64, in target: Segment) throws(Interruption) {
    if isLongMode, target.attributes & 0x2000 != 0 {
      guard LinearAddress.isCanonical(offset) else { throw .exception(.general) }
    } else if offset > UInt64(target.limit) {
      throw .exception(.general)
    }
  }

  /// RETF and IRET.
  func farReturn(size: Int, released: UInt64, isInterruptReturn: Bool) throws(Interruption) {
    if isInterruptReturn, system.cr0 & 1 != 0, systemFlags & 0x4000 != 0 {
      if isLongMode { throw .exception(.general) }
      throw .unsupported("a task switch")
    }
    let step = UInt64(size)
    // From the top down, as processors do.
    var newFlags: UInt64?
    if isInterruptReturn { newFlags = try peek(2 * step, size: size) }
    let selector = UInt16(truncatingIfNeeded: try peek(step, size: size))
    let offset = try peek(0, size: size)
    let popped = (isInterruptReturn ? 3 : 2) * step &+ released
    guard system.cr0 & 1 != 0 else {
      guard offset <= UInt64(system.cs.limit) else { throw .exception(.general) }
      stackPointer = stackPointer &+ popped
      if let newFlags { applyReturnFlags(newFlags, size: size, from: 0) }
      if isInterruptReturn { pendingEvents.nonMaskableBlocked = false }
      jumpReal(selector, offset)
      return
    }
    if let newFlags, newFlags & 0x2_0000 != 0, !isLongMode, cpl == 0, size == 4 {
      throw .unsupported("virtual-8086 mode")
    }
    let code = UInt32(selector & 0xfffc)
    guard code != 0 else { throw .exception(.general) }
    let found = try descriptor(selector, errorCode: code)
    let requested = UInt8(selector & 3)
    guard requested >= cpl, found.isCode,
      found.isConforming ? found.privilege <= requested : found.privilege == requested
    else { throw .exception(.general(code)) }
    guard found.isPresent else { throw .exception(.notPresent(code)) }
    if isLongMode, found.isLong, found.isDefault32 { throw .exception(.general(code)) }
    var target = found.segment(selector)
    target.attributes |= 1
    try checkTarget(offset, in: target)
    let isOuter = requested > cpl
    let privilege = cpl
    if isOuter || (isInterruptReturn && is64) {
      let newStack = try peek(popped, size: size)
      let stackSelector = UInt16(truncatingIfNeeded: try peek(popped &+ step, size: size))
      let isLong = isLongMode && target.attributes & 0x2000 != 0
      let newSegment = try returnStack(stackSelector, requested, toLong: isLong)
      try mark(selector, bit: 1)
      control.stack = newSegment
      cpl = requested
      // With a 16-bit stack segment the upper part of ESP stays what it was.
      let width = isLong || newSegment.attributes & 0x4000 != 0 ? 8 : 2
      setGeneral(.rsp, newStack &+ (isInterruptReturn ? 0 : released), size: width)
      if isOuter { dropInnerSegments() }
    } else {
      try mark(selector, bit: 1)
      stackPointer = stackPointer &+ popped
    }
    // The old privilege decides what may change.
    if let newFlags { applyReturnFlags(newFlags, size: size, from: privilege) }
    if isInterruptReturn { pendingEvents.nonMaskableBlocked = false }
    control.code = target
    rip = offset
  }

  private func returnStack(_ selector: UInt16, _ privilege: UInt8, toLong: Bool) throws(Interruption) -> Segment {
    let code = UInt32(selector & 0xfffc)
    if code == 0 {
      guard isLongMode, toLong, privilege != 3, UInt8(selector & 3) == privilege else { throw .exception(.general) }
      var value = Segment(selector: selector, base: 0, limit: .max, attributes: 0xc093, isUnusable: true)
      value.attributes |= UInt16(privilege) << 5
      return value
    }
    let found = try descriptor(selector, errorCode: code)
    guard UInt8(selector & 3) == privilege, !found.isSystem, !found.isCode, found.hasAccess,
      found.privilege == privilege
    else { throw .exception(.general(code)) }
    guard found.isPresent else { throw .exception(.stack(code)) }
    try mark(selector, bit: 1)
    var value = found.segment(selector)
    value.attributes |= 1
    return value
  }

  /// Data segments that the outer level may not use become null.
  private func dropInnerSegments() {
    for register in [SegmentRegister.ds, .es, .fs, .gs] {
      let value = segment(register)
      let isCode = value.attributes & 0x18 == 0x18
      if isCode, value.attributes & 4 != 0 { continue }
      if UInt8(truncatingIfNeeded: value.attributes >> 5 & 3) < cpl, value.selector & 0xfffc != 0 {
        setSegment(register, Segment(selector: 0, base: value.base, limit: 0, attributes: 0, isUnusable: true))
      }
    }
  }

  /// Which flags POPF and IRET may change depends on the privilege that they run with.
  func applyReturnFlags(_ value: UInt64, size: Int, from privilege: UInt8, isReturn: Bool = true) {
    var mask: UInt64 = Self.arithmeticFlags | 0x100 | 0x400 | 0x4000 | 0x4_0000 | 0x20_0000
    if isReturn { mask |= 0x1_0000 }
    let ioPrivilege = UInt8(truncatingIfNeeded: systemFlags >> 12 & 3)
    if privilege == 0 { mask |= 0x3000 }
    if privilege <= ioPrivilege { mask |= 0x200 }
    if size == 2 { mask &= 0xffff }
    var new = rflags & ~mask | value & mask
    if !isReturn { new &= ~0x1_0000 }
    rflags = new
  }
}
