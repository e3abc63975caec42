// Vector accesses that touch only some elements: VMASKMOV, VPMASKMOV, MASKMOVDQU, MASKMOVQ and the gathers.
//
// Each selected element is an access of its own, in ascending order, and what is not selected cannot fault. A gather that
// faults has loaded the elements before the fault and cleared their masks (Intel SDM vol. 2, "VPGATHERDD").

import CWorldSwitch
import InstructionSet
import VMM

extension RewritingProcessor {
  private func vector(_ number: UInt8) -> UnsafeMutableRawPointer {
    UnsafeMutableRawPointer(block.vectors + 32 * Int(number & (is64 ? 15 : 7)))
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

  private func isSelected(_ mask: UInt64, size: Int) -> Bool { mask >> UInt64(8 * size - 1) & 1 != 0 }

  /// - Returns: whether it was one of these instructions.
  func emulateMasked(_ instruction: Instruction, _ next: UInt64) throws(Interruption) -> Bool {
    // Elements are not checked for alignment; the byte masks' whole operand is.
    selectsElements = instruction.opcodeMap == Instruction.OpcodeMap.escape0F38
    defer { selectsElements = false }
    switch (instruction.opcodeMap, instruction.opcode) {
    case (Instruction.OpcodeMap.escape0F38, 0x2c...0x2f), (Instruction.OpcodeMap.escape0F38, 0x8c),
      (Instruction.OpcodeMap.escape0F38, 0x8e):
      try emulateMaskedMove(instruction, next)
    case (Instruction.OpcodeMap.escape0F38, 0x90...0x93): try emulateGather(instruction)
    case (Instruction.OpcodeMap.escape0F, 0xf7): try emulateByteMask(instruction)
    default: return false
    }
    rip = next
    return true
  }

  private func emulateMaskedMove(_ instruction: Instruction, _ next: UInt64) throws(Interruption) {
    guard let memory = instruction.memoryOperand else { throw .exception(.invalidOpcode) }
    let isDouble = instruction.opcode < 0x80 ? instruction.opcode & 1 != 0 : instruction.rexW
    let size = isDouble ? 8 : 4
    let width = instruction.vectorLength == 1 ? 32 : 16
    let isStore = instruction.opcode < 0x80 ? instruction.opcode >= 0x2e : instruction.opcode == 0x8e
    let register = vector(instruction.reg | instruction.rex << 1 & 8)
    let mask = vector(instruction.vvvv)
    let base = offset(memory, next)
    let isStack = memory.segment == .ss
    func place(_ index: Int) throws(Interruption) -> UInt64 {
      try address(memory.segment, base &+ UInt64(size * index), size: size, isWrite: isStore)
    }
    // Nothing may have happened when a later element faults.
    for index in 0..<width / size where isSelected(element(mask, index, size: size), size: size) {
      _ = try locate(try place(index), count: size, isStore ? .write : .read, isStack: isStack)
    }
    var loaded = [UInt64](repeating: 0, count: 8)
    for index in 0..<width / size where isSelected(element(mask, index, size: size), size: size) {
      let address = try place(index)
      if isStore {
        try save(address, element(register, index, size: size), size: size)
      } else {
        loaded[index] = try load(address, size: size)
      }
    }
    guard !isStore else { return }
    register.initializeMemory(as: UInt8.self, repeating: 0, count: 32)
    for index in 0..<width / size { setElement(register, index, loaded[index], size: size) }
  }

  private func emulateGather(_ instruction: Instruction) throws(Interruption) {
    guard let memory = instruction.memoryOperand, let indexRegister = memory.vectorIndex else {
      throw .exception(.invalidOpcode)
    }
    let size = instruction.rexW ? 8 : 4
    let indexSize = instruction.opcode & 1 == 0 ? 4 : 8
    let width = instruction.vectorLength == 1 ? 32 : 16
    let count = width / max(size, indexSize)
    let target = instruction.reg | instruction.rex << 1 & 8
    let maskNumber = is64 ? instruction.vvvv : instruction.vvvv & 7
    guard target != indexRegister, target != maskNumber, indexRegister != maskNumber else {
      throw .exception(.invalidOpcode)
    }
    let (register, mask, indices) = (vector(target), vector(instruction.vvvv), vector(indexRegister))
    for index in 0..<count {
      guard isSelected(element(mask, index, size: size), size: size) else {
        setElement(mask, index, 0, size: size)
        continue
      }
      let raw = element(indices, index, size: indexSize)
      let offset = indexSize == 4 ? UInt64(bitPattern: Int64(Int32(truncatingIfNeeded: raw))) : raw
      var place = (memory.base.map { general($0) } ?? 0) &+ offset &* UInt64(memory.scale)
      place = Self.cut(place &+ UInt64(bitPattern: memory.displacement), to: Int(memory.addressSize))
      place = try address(memory.segment, place, size: size, isWrite: false)
      setElement(register, index, try load(place, size: size, isStack: memory.segment == .ss), size: size)
      setElement(mask, index, 0, size: size)
    }
    // What lies above the elements becomes zero, and all of the mask.
    let used = count * size
    (register + used).initializeMemory(as: UInt8.self, repeating: 0, count: 32 - used)
    mask.initializeMemory(as: UInt8.self, repeating: 0, count: 32)
  }

  private func emulateByteMask(_ instruction: Instruction) throws(Interruption) {
    guard let memory = instruction.effects.memory.0 else { throw .exception(.invalidOpcode) }
    let isMMX = instruction.encoding == .legacy && instruction.simdPrefix == 0
    let base = general(.rdi, size: Int(instruction.addressSize))
    func place(_ index: Int) throws(Interruption) -> UInt64 {
      try address(memory.segment, base &+ UInt64(index), size: 1, isWrite: true)
    }
    if isMMX {
      guard cws_x87_status() & 0x80 == 0 else { throw .exception(.x87) }
      cws_save_x87(block.state)
      turnToMedia()
    }
    defer { if isMMX { cws_load_x87(block.state) } }
    let high = instruction.rex
    let (data, mask): (UnsafeMutableRawPointer, UnsafeMutableRawPointer)
    if isMMX {
      let registers = UnsafeMutableRawPointer(block.x87) + 32
      (data, mask) = (registers + 16 * Int(instruction.reg), registers + 16 * Int(instruction.rm))
    } else {
      (data, mask) = (vector(instruction.reg | high << 1 & 8), vector(instruction.rm | high << 3 & 8))
    }
    let count = isMMX ? 8 : 16
    // The segment must hold all of it, selected or not; what is not selected may fault all the same (AMD64 APM vol. 4,
    // "MASKMOVDQU"), and does on AMD's processors.
    let operand = try address(memory.segment, base, size: count, isWrite: true)
    // Alignment is checked by quadwords, as the differential tester saw it on AMD's processors.
    for half in stride(from: 0, to: count, by: 8) {
      _ = try locate(operand &+ UInt64(half), count: 8, .write)
    }
    selectsElements = true
    for index in 0..<count where (mask + index).load(as: UInt8.self) & 0x80 != 0 {
      try save(try place(index), UInt64((data + index).load(as: UInt8.self)), size: 1)
    }
  }

  /// What any MMX instruction does, one that faults too: every x87 register becomes valid and TOP 0. In FXSAVE's area, which
  /// has the registers in the order of the x87 stack, they change places by that.
  private func turnToMedia() {
    let area = UnsafeMutableRawPointer(block.x87)
    let status = area.load(fromByteOffset: 2, as: UInt16.self)
    let top = Int(status >> 11 & 7)
    var words: [UInt64] = []
    for number in 0..<8 {
      let place = area + 32 + 16 * ((number - top) & 7)
      words += [place.load(as: UInt64.self), (place + 8).load(as: UInt64.self)]
    }
    for (index, word) in words.enumerated() {
      area.storeBytes(of: word, toByteOffset: 32 + 8 * index, as: UInt64.self)
    }
    area.storeBytes(of: status & ~0x3800, toByteOffset: 2, as: UInt16.self)
    area.storeBytes(of: 0xff, toByteOffset: 4, as: UInt8.self)
  }
}
