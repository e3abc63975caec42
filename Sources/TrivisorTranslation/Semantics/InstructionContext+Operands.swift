// Operands of an instruction, by their width.

import TrivisorInstructionSet
import TrivisorVMM
import TrivisorX86

extension UInt64 {
  /// The low bytes.
  func cut(to size: Int) -> UInt64 { size >= 8 ? self : self & ((1 << UInt64(8 * size)) &- 1) }
}

extension InstructionContext {
  /// A general register's low bytes.
  func general(_ register: GeneralRegister, size: Int = 8) -> UInt64 { self[register].cut(to: size) }

  /// Writes as the processor does: 32 bits clear the upper half, fewer keep what is there.
  func setGeneral(_ register: GeneralRegister, _ value: UInt64, size: Int = 8) {
    switch size {
    case 8: self[register] = value
    case 4: self[register] = value & 0xffff_ffff
    default:
      let low = value.cut(to: size)
      self[register] = self[register] &- self[register].cut(to: size) | low
    }
  }

  /// EDX:EAX.
  var wideAccumulator: UInt64 {
    get { general(.rdx, size: 4) << 32 | general(.rax, size: 4) }
    set {
      setGeneral(.rax, newValue, size: 4)
      setGeneral(.rdx, newValue >> 32, size: 4)
    }
  }

  /// Long mode, whatever CS is.
  var isLongMode: Bool { efer.contains(.longModeActive) }
  var isProtected: Bool { cr0.contains(.protectedMode) }
  /// Real-mode code as a task of protected mode.
  var isVirtual8086: Bool { flags.contains(.virtual8086) && isProtected && !isLongMode }
  /// Selectors name descriptors: not so in real and virtual-8086 mode.
  var usesDescriptors: Bool { isProtected && !isVirtual8086 }
  /// CS is a 64-bit segment.
  var is64: Bool { isLongMode && segment(.cs).rights.contains(.long) }

  /// RIP of the instruction behind this one.
  func nextRIP(_ instruction: Instruction) -> UInt64 {
    let next = rip &+ UInt64(instruction.length)
    return is64 ? next : next & 0xffff_ffff
  }

  // MARK: ModRM

  func readRM(_ instruction: Instruction, _ next: UInt64, size: Int) throws(Interruption) -> UInt64 {
    if let memory = instruction.memoryOperand {
      return try load(try linear(memory, next, size: size, isWrite: false), size: size)
    }
    return general(instruction.registerOfRM, size: size)
  }

  /// Selectors and machine status words: 16 bits in memory, zero-extended in registers of the operand size.
  func writeSelector(_ value: UInt16, _ instruction: Instruction, _ next: UInt64) throws(Interruption) {
    if let memory = instruction.memoryOperand {
      try save(try linear(memory, next, size: 2, isWrite: true), UInt64(value), size: 2)
    } else {
      setGeneral(instruction.registerOfRM, UInt64(value), size: Int(instruction.operandSize))
    }
  }

  /// Two values behind each other, which are two accesses.
  func loadPair(
    _ memory: MemoryOperand, _ next: UInt64, size: Int, secondSize: Int
  ) throws(Interruption) -> (UInt64, UInt64) {
    let first = offset(memory, next)
    let second = (first &+ UInt64(size)).cut(to: Int(memory.addressSize))
    let isStack = memory.segment == .ss
    let value = try load(
      try address(memory.segment, first, size: size, isWrite: false), size: size, isStack: isStack)
    return (
      value,
      try load(
        try address(memory.segment, second, size: secondSize, isWrite: false), size: secondSize, isStack: isStack)
    )
  }

  // MARK: The stack

  /// Width of the stack pointer in bytes.
  var stackSize: Int { is64 ? 8 : segment(.ss).rights.contains(.big) ? 4 : 2 }

  /// RSP in the stack's width.
  var stackPointer: UInt64 {
    get { general(.rsp, size: stackSize) }
    set { setGeneral(.rsp, newValue, size: stackSize) }
  }

  /// What lies so many bytes above the stack pointer.
  func peek(_ distance: UInt64, size: Int) throws(Interruption) -> UInt64 {
    let offset = (stackPointer &+ distance).cut(to: stackSize)
    return try load(
      try address(.ss, offset, size: size, isWrite: false), size: size, isStack: true)
  }

  /// Pushes values in this order. Those before a fault stay in memory, below the pointer, as processors leave them.
  func push<let count: Int>(_ values: InlineArray<count, UInt64>, size: Int) throws(Interruption) {
    var offset = stackPointer
    for index in 0..<count {
      offset = (offset &- UInt64(size)).cut(to: stackSize)
      try save(
        try address(.ss, offset, size: size, isWrite: true), values[index], size: size, isStack: true)
    }
    stackPointer = offset
  }

  func push(_ value: UInt64, size: Int) throws(Interruption) {
    let offset = (stackPointer &- UInt64(size)).cut(to: stackSize)
    try save(
      try address(.ss, offset, size: size, isWrite: true), value, size: size, isStack: true)
    stackPointer = offset
  }
}
