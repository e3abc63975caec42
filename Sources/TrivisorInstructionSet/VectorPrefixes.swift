// VEX, EVEX and XOP: the prefixes that carry an opcode map, a second source register and a vector length.

extension Decoder {
  /// Reads VEX or EVEX at `start` and returns the opcode's offset (AMD64 APM vol. 3, 1.2.7; Intel SDM vol. 2, 2.3,
  /// 2.7).
  func readVectorPrefix(_ bytes: UnsafeRawPointer, _ start: Int, into instruction: inout Instruction) -> Int {
    let first = bytes.byte(start + 1)
    var rex = ~first >> 5 & 7  // R X B
    let last: UInt8
    let next: Int
    switch bytes.byte(start) {
    case 0xc5:
      rex &= 4
      instruction.opcodeMap = Instruction.OpcodeMap.escape0F
      last = first & 0x7f
      next = start + 2
    case 0xc4:
      instruction.opcodeMap = first & 0x1f
      last = bytes.byte(start + 2)
      next = start + 3
    default:
      instruction.opcodeMap = first & 7
      last = bytes.byte(start + 2)
      instruction.vectorLength = bytes.byte(start + 3) >> 5 & 3
      next = start + 4
    }
    if instruction.encoding == .vex { instruction.vectorLength = last >> 2 & 1 }
    instruction.simdPrefix = last & 3
    instruction.vvvv = ~last >> 3 & 15
    if mode != .bits64 {
      // X and B extend nothing there, and vvvv has three bits.
      rex = 0
    }
    // A legacy SIMD prefix, LOCK or REX in front makes #UD of it, which `checkVEX` sees by this.
    if instruction.rex != 0 { instruction.prefixes.insert(.rex) }
    instruction.rex = rex | last >> 4 & 8
    return next
  }

  func formMap(of instruction: Instruction) -> Int? {
    guard instruction.encoding == .vex else { return nil }
    switch instruction.opcodeMap {
    case 1: return FormMap.vex0F.rawValue
    case 2: return FormMap.vex0F38.rawValue
    case 3: return FormMap.vex0F3A.rawValue
    default: return nil
    }
  }

  /// An opcode that the table doesn't have: AVX-512, AMX, FMA4, XOP and whatever else the vector prefixes introduce.
  /// All of them have ModRM, and the map says what immediate follows, so the length is known.
  func undefinedVector(_ bytes: UnsafeRawPointer, _ start: Int, _ instruction: inout Instruction) -> Int {
    switch instruction.encoding {
    case .evex: instruction.feature = .evex
    case .xop: instruction.feature = .xop
    default: instruction.feature = .other
    }
    instruction.opcode = bytes.byte(start)
    instruction.opcodeOffset = UInt8(truncatingIfNeeded: start)
    let offset = readModRM(bytes, start + 1, into: &instruction)
    let size: UInt8
    switch (instruction.encoding, instruction.opcodeMap) {
    case (.xop, 8): size = 1
    case (.xop, 10): size = 4
    case (.vex, 3), (.evex, 3): size = 1
    case (.vex, 1), (.evex, 1):
      switch instruction.opcode {
      case 0x70...0x73, 0xc2, 0xc4, 0xc5, 0xc6: size = 1
      default: size = 0
      }
    default: size = 0
    }
    if size != 0 {
      instruction.immediateOffset = UInt8(truncatingIfNeeded: offset)
      instruction.immediateSize = size
      instruction.immediate = bytes.unsigned(offset, size)
    }
    return offset + Int(size)
  }

  /// What no mask and value of a form can say of a VEX encoding.
  func checkVEX(_ instruction: inout Instruction) {
    let forbidden: Prefixes = [.operandSize, .lock, .rep, .repne, .rex]
    if !instruction.prefixes.isDisjoint(with: forbidden) {
      instruction.classification = .undefined
    }
    if instruction.attributes.contains(.gather) {
      // A vector index needs SIB, and the three registers must differ (AMD64 APM vol. 4, "VGATHERDPD").
      let destination = instruction.reg | instruction.rex << 1 & 8
      let index = instruction.sib >> 3 & 7 | instruction.rex << 2 & 8
      let mask = mode == .bits64 ? instruction.vvvv : instruction.vvvv & 7
      if instruction.sibOffset == 0 || destination == index || destination == mask || index == mask {
        instruction.classification = .undefined
      }
    }
  }
}
