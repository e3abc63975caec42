/// One operand as the table writes it: where it comes from, how wide it is, what happens to it.
struct OperandSpecification: BitwiseCopyable {
  var method: AddressingMethod = .none
  var size: OperandSize = .none
  /// The register, for the fixed ones; the number of stack slots; the width of a gather's index.
  var number: UInt8 = 0
  var access: Access = .read
}

/// Where an operand is encoded. The letters are those of the opcode maps in Intel SDM vol. 2, appendix A.2.1, with a
/// few of our own where the manual has none.
enum AddressingMethod: UInt8, BitwiseCopyable {
  case none
  /// E: general register or memory by ModRM.rm; G: general register by ModRM.reg; M: memory only; R: register only;
  /// B: general register by VEX.vvvv; Z: general register by the opcode's low three bits.
  case modRMGeneral, regGeneral, modRMMemory, rmGeneral, vvvvGeneral, opcodeGeneral
  /// W: vector register or memory by ModRM.rm; V: by ModRM.reg; U: ModRM.rm, register only; H: by VEX.vvvv;
  /// L: by the immediate's upper four bits.
  case modRMVector, regVector, rmVector, vvvvVector, immediateVector
  /// Q, P and N: the same for MMX.
  case modRMMMX, regMMX, rmMMX
  /// T: x87 stack register by ModRM.rm.
  case rmX87
  /// S, C and D: segment, control and debug register by ModRM.reg.
  case regSegment, regControl, regDebug
  /// I: immediate; J: branch offset; A: far pointer in the instruction; O: memory by an offset in the instruction.
  case immediate, relative, farPointer, directMemory
  /// X: memory at DS:rSI, Y: at ES:rDI; `[DI]`: at DS:rDI with a byte mask; @: gather.
  case sourceString, destinationString, maskedString, gather
  /// Registers named in the table.
  case fixedGeneral, fixedVector, fixedX87, fixedSegment
  /// The stack, with its pointer; LEAVE's frame; XLAT's table.
  case push, pop, leave, tableLookup

  init?(letter: UInt8) {
    switch letter {
    case UInt8(ascii: "E"): self = .modRMGeneral
    case UInt8(ascii: "G"): self = .regGeneral
    case UInt8(ascii: "M"): self = .modRMMemory
    case UInt8(ascii: "R"): self = .rmGeneral
    case UInt8(ascii: "B"): self = .vvvvGeneral
    case UInt8(ascii: "Z"): self = .opcodeGeneral
    case UInt8(ascii: "W"): self = .modRMVector
    case UInt8(ascii: "V"): self = .regVector
    case UInt8(ascii: "U"): self = .rmVector
    case UInt8(ascii: "H"): self = .vvvvVector
    case UInt8(ascii: "L"): self = .immediateVector
    case UInt8(ascii: "Q"): self = .modRMMMX
    case UInt8(ascii: "P"): self = .regMMX
    case UInt8(ascii: "N"): self = .rmMMX
    case UInt8(ascii: "T"): self = .rmX87
    case UInt8(ascii: "S"): self = .regSegment
    case UInt8(ascii: "C"): self = .regControl
    case UInt8(ascii: "D"): self = .regDebug
    case UInt8(ascii: "I"): self = .immediate
    case UInt8(ascii: "J"): self = .relative
    case UInt8(ascii: "A"): self = .farPointer
    case UInt8(ascii: "O"): self = .directMemory
    case UInt8(ascii: "X"): self = .sourceString
    case UInt8(ascii: "Y"): self = .destinationString
    default: return nil
    }
  }

  var usesModRM: Bool { rawValue >= Self.modRMGeneral.rawValue && rawValue <= Self.regDebug.rawValue && !isElsewhere }

  private var isElsewhere: Bool {
    self == .vvvvGeneral || self == .opcodeGeneral || self == .vvvvVector || self == .immediateVector
  }

  /// ModRM.mod must be 3.
  var requiresRegister: Bool { self == .rmGeneral || self == .rmVector || self == .rmMMX || self == .rmX87 }

  /// ModRM.mod must not be 3.
  var requiresMemory: Bool { self == .modRMMemory || self == .gather }

  var isImplicitMemory: Bool {
    switch self {
    case .directMemory, .sourceString, .destinationString, .maskedString, .gather, .push, .pop, .leave, .tableLookup:
      true
    default: false
    }
  }
}

extension OperandSpecification {
  var isVectorMemory: Bool { method == .modRMVector }
}

/// How wide an operand is, by the size letters of the same appendix.
enum OperandSize: UInt8, BitwiseCopyable {
  case none
  case byte, word, doubleword, quadword, octoword, doubleOctoword
  /// v: by operand size; z: the same, but at most 4; y: 8 with REX.W or VEX.W in 64-bit mode, else 4.
  case operand, operandUpTo4, generalByW
  /// x: 32 bytes with VEX.L, else 16; h, f, e: a half, a quarter, an eighth of it; k: MOVDDUP's 8 or 32.
  case vector, halfVector, quarterVector, eighthVector, movddup
  /// p: far pointer in memory; a: BOUND's pair; s: limit and base of a descriptor table; t: 10-byte real.
  case farPointer, pair, pseudoDescriptor, extendedReal
  /// n: 8 in 64-bit mode, else 4, whatever the prefixes.
  case native
  case x87Environment, x87State, fxsaveArea, xsaveArea, cacheLine
  /// Widths of named registers: by address size, by stack width, and AH, CH, DH, BH.
  case address, stack, highByte

  var isWholeVector: Bool { self == .vector || self == .octoword }

  /// The words that the table uses, in the order of the cases.
  static let words: StaticString =
    "- b w d q dq qq v z y x h f e k p a s t n env state fx xs 64"

  /// Registers that the table names, as runs of four or eight in number order; see `TableReader`.
  static let registerWords: StaticString = """
    al cl dl bl ah ch dh bh ax cx dx bx sp bp si di eax ecx edx ebx esp ebp esi edi rax rcx rdx rbx rsp rbp rsi rdi \
    rAX rCX rDX rBX rSP rBP rSI rDI eAX eCX eDX eBX eSP eBP eSI eDI yAX yCX yDX yBX ySP yBP ySI yDI \
    aAX aCX aDX aBX aSP aBP aSI aDI es cs ss ds fs gs . . st0 st1 st2 st3 st4 st5 st6 st7 xmm0 r11
    """
}
