import InstructionSet

/// What an instruction is called here: the mnemonic, without operand sizes, and with what it moves from or to where that
/// makes the difference.
enum InstructionName {
  static func of(_ instruction: Instruction) -> String {
    let mnemonic = instruction.mnemonic
    let number = instruction.reg | (instruction.rex & 4) << 1
    if instruction.opcodeMap == Instruction.OpcodeMap.escape0F {
      switch instruction.opcode {
      case 0x20: return "mov from cr\(number)"
      case 0x21: return "mov from dr"
      case 0x22: return "mov to cr\(number)"
      case 0x23: return "mov to dr"
      case 0xa0, 0xa8: return "push segment register"
      case 0xa1, 0xa9: return "pop segment register"
      case 0xb2, 0xb4, 0xb5: return "load far pointer"
      default: break
      }
    } else if instruction.opcodeMap == Instruction.OpcodeMap.oneByte {
      switch instruction.opcode {
      case 0x06, 0x0e, 0x16, 0x1e: return "push segment register"
      case 0x07, 0x17, 0x1f: return "pop segment register"
      case 0x8c: return "mov from segment register"
      case 0x8e: return "mov to segment register"
      case 0xc4, 0xc5: return "load far pointer"
      case 0x6c, 0x6d: return "ins"
      case 0x6e, 0x6f: return "outs"
      default: break
      }
    }
    switch instruction.classification {
    case .farCall: return "far call"
    case .farJump: return "far jmp"
    case .farReturn: return "far ret"
    case .interruptReturn: return "iret"
    default: return mnemonic
    }
  }
}
