// Segments as memory accesses see them (AMD64 APM vol. 2, 4.7 and 4.12): a base, a limit, and rights.

import TrivisorInstructionSet
import TrivisorVMM
import TrivisorX86

extension Segment {
  /// Type and rights by their names.
  var rights: SegmentAttributes {
    get { SegmentAttributes(rawValue: attributes) }
    set { attributes = newValue.rawValue }
  }

  init(selector: UInt16, base: UInt64, limit: UInt32, rights: SegmentAttributes, isUnusable: Bool = false) {
    self.init(selector: selector, base: base, limit: limit, attributes: rights.rawValue, isUnusable: isUnusable)
  }

  /// SS with a null selector, which long mode allows inside CPL 3.
  static func nullStack(_ selector: UInt16, privilege: UInt8) -> Segment {
    Segment(selector: selector, base: 0, limit: .max, rights: .flatData(privilege: privilege), isUnusable: true)
  }

  /// In virtual-8086 mode: sixteen times the selector, 64 KiB.
  static func virtual8086(_ selector: UInt16) -> Segment {
    var rights = SegmentAttributes.realData
    rights.privilege = 3
    return Segment(selector: selector, base: UInt64(selector) << 4, limit: 0xffff, rights: rights)
  }

  /// With another DPL.
  func with(privilege: UInt8) -> Segment {
    var value = self
    value.rights.privilege = privilege
    return value
  }

  /// The selector names nothing.
  var isNull: Bool { Selector(rawValue: selector).isNull }
}

extension InstructionContext {
  /// Whether an access outside 64-bit mode stays in its segment and has the right kind: else #GP(0), or #SS(0).
  func checkSegment(
    _ register: SegmentRegister, _ offset: UInt64, size: Int, isWrite: Bool
  ) throws(Interruption) {
    try checkSegment(
      segment(register), offset, size: size, isWrite: isWrite, fault: register == .ss ? .stack(0) : .general)
  }

  func checkSegment(
    _ segment: Segment, _ offset: UInt64, size: Int, isWrite: Bool, fault: GuestException
  ) throws(Interruption) {
    let last = offset &+ UInt64(max(size, 1) - 1)
    if usesDescriptors {
      let rights = segment.rights
      let isCode = rights.contains(.code)
      let isAllowed = isWrite ? !isCode && rights.contains(.writable) : !isCode || rights.contains(.readable)
      guard !segment.isUnusable, isAllowed else { throw .exception(fault) }
      if !isCode, rights.contains(.expandDown) {
        // What lies above the limit.
        let top: UInt64 = rights.contains(.big) ? 0xffff_ffff : 0xffff
        guard offset > UInt64(segment.limit), last <= top else { throw .exception(fault) }
        return
      }
    }
    guard last <= UInt64(segment.limit) else { throw .exception(fault) }
  }

  /// The linear address of an access.
  func address(
    _ register: SegmentRegister, _ offset: UInt64, size: Int, isWrite: Bool
  ) throws(Interruption) -> UInt64 {
    if is64 {
      return register == .fs || register == .gs ? offset &+ segment(register).base : offset
    }
    try checkSegment(register, offset, size: size, isWrite: isWrite)
    return (offset &+ segment(register).base) & 0xffff_ffff
  }

  /// A memory operand's offset in its segment.
  func offset(_ memory: MemoryOperand, _ next: UInt64) -> UInt64 {
    var offset = UInt64(bitPattern: memory.displacement)
    if memory.isRIPRelative { offset = offset &+ next }
    if let base = memory.base { offset = offset &+ self[base] }
    if let index = memory.index { offset = offset &+ self[index] &* UInt64(memory.scale) }
    return offset.cut(to: Int(memory.addressSize))
  }

  /// A memory operand's linear address.
  func linear(
    _ memory: MemoryOperand, _ next: UInt64, size: Int, isWrite: Bool
  ) throws(Interruption) -> UInt64 {
    try address(memory.segment, offset(memory, next), size: size, isWrite: isWrite)
  }
}
