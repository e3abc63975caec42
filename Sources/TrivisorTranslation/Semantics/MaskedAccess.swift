// Vector accesses that touch only some elements: VMASKMOV, VPMASKMOV, MASKMOVDQU, MASKMOVQ and the gathers.
//
// Each selected element is an access of its own, in ascending order, and what is not selected cannot fault. A gather that
// faults has loaded the elements before the fault and cleared their masks (Intel SDM vol. 2, "VPGATHERDD").

import TrivisorInstructionSet
import TrivisorVMM
import TrivisorX86

struct MaskedAccess<Context: InstructionContext> {
  private let context: Context
  private let instruction: Instruction
  private let next: UInt64

  init(_ instruction: Instruction, next: UInt64, in context: Context) {
    self.context = context
    self.instruction = instruction
    self.next = next
  }

  func execute() throws(Interruption) {
    // Elements are not checked for alignment; the byte masks' whole operand is.
    context.selectsElements = instruction.encoding == .vex && instruction.operation != .maskmovdqu
    defer { context.selectsElements = false }
    switch instruction.operation {
    case .maskmovq, .maskmovdqu: try storeBytes()
    case .vmaskmovps, .vmaskmovpd, .vpmaskmovd, .vpmaskmovq: try move()
    default: try gather()
    }
    context.rip = next
  }

  // MARK: Elements

  private func vector(_ number: UInt8) -> UnsafeMutableRawPointer {
    context.vectorRegisters + 32 * Int(number & (context.is64 ? 15 : 7))
  }

  private func element(_ register: UnsafeMutableRawPointer, _ index: Int, size: Int) -> UInt64 {
    size == 4
      ? UInt64((register + 4 * index).load(as: UInt32.self)) : (register + 8 * index).load(as: UInt64.self)
  }

  private func setElement(_ register: UnsafeMutableRawPointer, _ index: Int, _ value: UInt64, size: Int) {
    if size == 4 {
      (register + 4 * index).storeBytes(of: UInt32(truncatingIfNeeded: value), as: UInt32.self)
    } else {
      (register + 8 * index).storeBytes(of: value, as: UInt64.self)
    }
  }

  private func isSelected(_ mask: UnsafeMutableRawPointer, _ index: Int, size: Int) -> Bool {
    element(mask, index, size: size) >> UInt64(8 * size - 1) & 1 != 0
  }

  private var vectorSize: Int { instruction.vectorLength == 1 ? 32 : 16 }

  // MARK: VMASKMOV and VPMASKMOV

  private func move() throws(Interruption) {
    guard let memory = instruction.memoryOperand else { throw .exception(.invalidOpcode) }
    let size = instruction.operation == .vmaskmovpd || instruction.operation == .vpmaskmovq ? 8 : 4
    let count = vectorSize / size
    let isStore = memory.access.mayWrite
    let register = vector(instruction.numberOfReg)
    let mask = vector(instruction.vvvv)
    let base = context.offset(memory, next)
    let isStack = memory.segment == .ss
    func place(_ index: Int) throws(Interruption) -> UInt64 {
      try context.address(memory.segment, base &+ UInt64(size * index), size: size, isWrite: isStore)
    }
    // Nothing may have happened when a later element faults.
    for index in 0..<count where isSelected(mask, index, size: size) {
      try context.check(try place(index), count: size, isStore ? .write : .read, isStack: isStack)
    }
    var loaded = InlineArray<8, UInt64>(repeating: 0)
    for index in 0..<count where isSelected(mask, index, size: size) {
      let address = try place(index)
      if isStore {
        try context.save(address, element(register, index, size: size), size: size)
      } else {
        loaded[index] = try context.load(address, size: size)
      }
    }
    guard !isStore else { return }
    register.initializeMemory(as: UInt8.self, repeating: 0, count: 32)
    for index in 0..<count { setElement(register, index, loaded[index], size: size) }
  }

  // MARK: Gathers

  private func gather() throws(Interruption) {
    guard let memory = instruction.memoryOperand, let indexRegister = memory.vectorIndex else {
      throw .exception(.invalidOpcode)
    }
    let size = instruction.rexW ? 8 : 4
    let indexSize = Int(memory.vectorIndexSize)
    let count = vectorSize / max(size, indexSize)
    let target = instruction.numberOfReg
    let maskNumber = context.is64 ? instruction.vvvv : instruction.vvvv & 7
    guard target != indexRegister, target != maskNumber, indexRegister != maskNumber else {
      throw .exception(.invalidOpcode)
    }
    let (register, mask, indices) = (vector(target), vector(instruction.vvvv), vector(indexRegister))
    for index in 0..<count {
      if isSelected(mask, index, size: size) {
        let place = try gatheredAddress(memory, element(indices, index, size: indexSize), indexSize, size)
        let value = try context.load(place, size: size, isStack: memory.segment == .ss)
        setElement(register, index, value, size: size)
      }
      setElement(mask, index, 0, size: size)
    }
    // What lies above the elements becomes zero, and all of the mask.
    let used = count * size
    (register + used).initializeMemory(as: UInt8.self, repeating: 0, count: 32 - used)
    mask.initializeMemory(as: UInt8.self, repeating: 0, count: 32)
  }

  private func gatheredAddress(
    _ memory: MemoryOperand, _ index: UInt64, _ indexSize: Int, _ size: Int
  ) throws(Interruption) -> UInt64 {
    let index = indexSize == 4 ? UInt64(bitPattern: Int64(Int32(truncatingIfNeeded: index))) : index
    var offset = (memory.base.map { context[$0] } ?? 0) &+ index &* UInt64(memory.scale)
    offset = (offset &+ UInt64(bitPattern: memory.displacement)).cut(to: Int(memory.addressSize))
    return try context.address(memory.segment, offset, size: size, isWrite: false)
  }

  // MARK: MASKMOVQ and MASKMOVDQU

  private func storeBytes() throws(Interruption) {
    guard let memory = instruction.effects.memory.0 else { throw .exception(.invalidOpcode) }
    let isMMX = instruction.operation == .maskmovq
    let base = context.general(.rdi, size: Int(instruction.addressSize))
    func place(_ index: Int) throws(Interruption) -> UInt64 {
      try context.address(memory.segment, base &+ UInt64(index), size: 1, isWrite: true)
    }
    if isMMX {
      guard !context.hasPendingX87Error else { throw .exception(.x87) }
      context.saveX87()
      X87Image(context.x87Area).turnToMedia()
    }
    defer { if isMMX { context.loadX87() } }
    let (data, mask): (UnsafeMutableRawPointer, UnsafeMutableRawPointer)
    if isMMX {
      let registers = context.x87Area + X87Image.registers
      (data, mask) = (registers + 16 * Int(instruction.reg), registers + 16 * Int(instruction.rm))
    } else {
      (data, mask) = (vector(instruction.numberOfReg), vector(instruction.numberOfRM))
    }
    let count = isMMX ? 8 : 16
    // The segment must hold all of it, selected or not; what is not selected may fault all the same (AMD64 APM vol. 4,
    // "MASKMOVDQU"), and does on AMD's processors.
    let operand = try context.address(memory.segment, base, size: count, isWrite: true)
    // Alignment is checked by quadwords, as the differential tester saw it on AMD's processors.
    for half in stride(from: 0, to: count, by: 8) {
      try context.check(operand &+ UInt64(half), count: 8, .write)
    }
    context.selectsElements = true
    for index in 0..<count where (mask + index).load(as: UInt8.self) & 0x80 != 0 {
      try context.save(try place(index), UInt64((data + index).load(as: UInt8.self)), size: 1)
    }
  }
}
