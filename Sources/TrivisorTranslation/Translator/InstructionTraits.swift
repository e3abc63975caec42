// What the translator asks of an instruction besides its class.

import TrivisorInstructionSet

extension Instruction {
  /// Translated in place, and all that it does is in its effects.
  var isPlain: Bool {
    switch classification {
    case .innocuous: !setsDirection && !isMaskedMove
    case .implicitMemory: isPushOrPopOfRegister
    default: false
    }
  }

  /// PUSH and POP with the register in the opcode.
  var isPushOrPopOfRegister: Bool {
    (operation == .push || operation == .pop) && !hasModRM && immediateSize == 0
  }

  /// CLD or STD: the guest's direction flag never gets into the host's.
  var setsDirection: Bool { operation == .cld || operation == .std }

  /// Exists in 64-bit mode in another encoding: INC and DEC without ModRM, and 82.
  var isLikeModern: Bool {
    encoding == .legacy && opcodeMap == OpcodeMap.oneByte && (0x40...0x4f ~= opcode || opcode == 0x82)
  }

  /// Prefetches and long NOPs.
  var isHint: Bool {
    switch operation {
    case .prefetch, .prefetchw, .prefetchnta, .prefetcht0, .prefetcht1, .prefetcht2: true
    case .nop: opcodeMap == OpcodeMap.escape0F
    default: false
    }
  }

  /// VMASKMOV and VPMASKMOV with memory: what the mask leaves out must not fault.
  var isMaskedMove: Bool {
    switch operation {
    case .vmaskmovps, .vmaskmovpd, .vpmaskmovd, .vpmaskmovq: hasModRMMemory
    default: false
    }
  }

  /// A pending x87 exception is raised by it: x87 instructions that have no form that doesn't wait, and whatever has an
  /// MMX register.
  var waitsForX87: Bool {
    guard encoding == .legacy else { return false }
    switch feature {
    case .x87: return operation != .fnstcw && operation != .fnstsw
    case .mmx, .mmxext, .sse, .sse2, .ssse3: return hasMMXRegister
    default: return false
    }
  }

  private var hasMMXRegister: Bool {
    for index in 0..<operandCount {
      if case .mmx? = operand(at: index)?.kind { return true }
    }
    return false
  }

  /// Names vector or MMX registers, or MXCSR: not prefetches, fences, MOVNTI and their like.
  var usesVectors: Bool {
    for index in 0..<operandCount {
      switch operand(at: index)?.kind {
      case .vector, .mmx: return true
      default: break
      }
    }
    return operation == .ldmxcsr || operation == .stmxcsr
  }

  /// The condition of Jcc, by its number in the opcode.
  var condition: UInt8 { opcode & 15 }

  /// ModRM.rm as a general register.
  var registerOfRM: GeneralRegister { GeneralRegister(rawValue: numberOfRM) ?? .rax }
  /// ModRM.reg as a general register.
  var registerOfReg: GeneralRegister { GeneralRegister(rawValue: numberOfReg) ?? .rax }

  /// VBLENDVPS and its like.
  var hasVectorInImmediate: Bool {
    for index in 0..<operandCount {
      if let operand = operand(at: index), case .vector = operand.kind, operand.place == .immediate { return true }
    }
    return false
  }
}
