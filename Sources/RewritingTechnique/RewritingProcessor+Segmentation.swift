// Segments as memory accesses see them (AMD64 APM vol. 2, 4.7 and 4.12): a base, a limit, and rights.
//
// Outside 64-bit mode translated code compares an offset with the end of the segment that is in the state block, and
// comes here with what is not below: accesses beyond the limit, expand-down segments, segments that may not be used.

import InstructionSet
import VMM

extension RewritingProcessor {
  /// CS is a 64-bit segment.
  var is64: Bool { control.is64 }

  /// Width of the stack pointer in bytes.
  var stackSize: Int { control.stackSize }

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
    if system.cr0 & 1 != 0 {
      let isCode = segment.attributes & 8 != 0
      let isAllowed = isWrite ? !isCode && segment.attributes & 2 != 0 : !isCode || segment.attributes & 2 != 0
      guard !segment.isUnusable, isAllowed else { throw .exception(fault) }
      if !isCode, segment.attributes & 4 != 0 {
        // Expand-down: what lies above the limit.
        let top: UInt64 = segment.attributes & 0x4000 != 0 ? 0xffff_ffff : 0xffff
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
    if let base = memory.base { offset = offset &+ general(base) }
    if let index = memory.index { offset = offset &+ general(index) &* UInt64(memory.scale) }
    return Self.cut(offset, to: Int(memory.addressSize))
  }

  /// A memory operand's linear address.
  func linear(
    _ memory: MemoryOperand, _ next: UInt64, size: Int, isWrite: Bool
  ) throws(Interruption) -> UInt64 {
    try address(memory.segment, offset(memory, next), size: size, isWrite: isWrite)
  }

  /// Two values behind each other, which are two accesses.
  func loadPair(
    _ memory: MemoryOperand, _ next: UInt64, size: Int, secondSize: Int
  ) throws(Interruption) -> (UInt64, UInt64) {
    let first = offset(memory, next)
    let second = Self.cut(first &+ UInt64(size), to: Int(memory.addressSize))
    let isStack = memory.segment == .ss
    let value = try load(
      try address(memory.segment, first, size: size, isWrite: false), size: size, isStack: isStack)
    return (
      value,
      try load(
        try address(memory.segment, second, size: secondSize, isWrite: false), size: secondSize, isStack: isStack)
    )
  }

  /// The low bytes.
  static func cut(_ value: UInt64, to size: Int) -> UInt64 {
    size >= 8 ? value : value & ((1 << UInt64(8 * size)) - 1)
  }

  // MARK: The stack

  /// RSP in the stack's width.
  var stackPointer: UInt64 {
    get { general(.rsp, size: stackSize) }
    set { setGeneral(.rsp, newValue, size: stackSize) }
  }

  /// What lies so many bytes above the stack pointer.
  func peek(_ distance: UInt64, size: Int) throws(Interruption) -> UInt64 {
    let offset = Self.cut(stackPointer &+ distance, to: stackSize)
    return try load(try address(.ss, offset, size: size, isWrite: false), size: size, isStack: true)
  }

  /// Pushes values in this order. Those before a fault stay in memory, below the pointer, as processors leave them.
  func push(_ values: [UInt64], size: Int) throws(Interruption) {
    var offset = stackPointer
    for value in values {
      offset = Self.cut(offset &- UInt64(size), to: stackSize)
      try save(try address(.ss, offset, size: size, isWrite: true), value, size: size, isStack: true)
    }
    stackPointer = offset
  }

  func push(_ value: UInt64, size: Int) throws(Interruption) {
    let offset = Self.cut(stackPointer &- UInt64(size), to: stackSize)
    try save(try address(.ss, offset, size: size, isWrite: true), value, size: size, isStack: true)
    stackPointer = offset
  }
}
