/// A decoded instruction: its parts, where they lie, and the line of the table that it matches.
///
/// The parts are enough to re-encode it: every byte of it belongs to a prefix, the opcode, ModRM, SIB, the displacement
/// or an immediate, and each of those has its offset and size. What the instruction does is derived when asked for:
/// `memoryOperand`, `operands` and `effects`.
public struct Instruction: Sendable, BitwiseCopyable {
  /// How the opcode is introduced.
  public enum Encoding: UInt8, Sendable, BitwiseCopyable {
    case legacy, vex, evex, xop
  }

  /// Opcode maps by their number in VEX.mmmmm, XOP's and EVEX's included; 15 stands for 3DNow!'s.
  public enum OpcodeMap {
    /// No escape byte.
    public static let oneByte: UInt8 = 0
    /// 0F.
    public static let escape0F: UInt8 = 1
    /// 0F 38.
    public static let escape0F38: UInt8 = 2
    /// 0F 3A.
    public static let escape0F3A: UInt8 = 3
    /// 0F 0F, with the opcode after the operands.
    public static let threeDNow: UInt8 = 15
  }

  /// In bytes. For an undefined instruction: as far as decoding went before it was clear.
  public internal(set) var length: UInt8 = 0
  /// What it was decoded as.
  public internal(set) var mode: CPUMode
  /// What it does; also of an instruction that is undefined for its prefixes or registers.
  public internal(set) var operation: Operation = .none
  /// What an engine has to do with it.
  public internal(set) var classification: Classification = .undefined
  /// The processor feature that it needs.
  public internal(set) var feature: Feature = .base

  /// Those of the legacy prefixes and REX that count.
  public internal(set) var prefixes: Prefixes = []
  /// Bytes in front of the opcode or of the VEX, EVEX or XOP prefix: legacy prefixes and REX, counting or not.
  public internal(set) var prefixCount: UInt8 = 0
  var segmentOverrideNumber: UInt8 = 0xff
  /// How the opcode is introduced.
  public internal(set) var encoding: Encoding = .legacy

  /// See `OpcodeMap`.
  public internal(set) var opcodeMap: UInt8 = 0
  /// The last byte of the opcode, in its map.
  public internal(set) var opcode: UInt8 = 0
  /// Of that byte.
  public internal(set) var opcodeOffset: UInt8 = 0
  /// W, R, X, B in bits 3 to 0, from REX, VEX, EVEX or XOP, upright whatever the encoding; 0 outside 64-bit mode, but
  /// for W.
  public internal(set) var rex: UInt8 = 0

  /// The register in vvvv, upright; 0 if the encoding has none.
  public internal(set) var vvvv: UInt8 = 0
  /// VEX.L, EVEX.LL.
  public internal(set) var vectorLength: UInt8 = 0
  /// 0 none, 1 for 66, 2 for F3, 3 for F2: VEX.pp, or the legacy prefix that could count as part of the opcode.
  public internal(set) var simdPrefix: UInt8 = 0
  /// 0 if there is none: see `hasModRM`.
  public internal(set) var modRM: UInt8 = 0

  /// 0 if there is none: see `sibOffset`.
  public internal(set) var sib: UInt8 = 0
  /// 0 if there is none, as with the offsets below.
  public internal(set) var modRMOffset: UInt8 = 0
  /// 0 if there is none.
  public internal(set) var sibOffset: UInt8 = 0
  /// 0 if there is none.
  public internal(set) var displacementOffset: UInt8 = 0

  /// In bytes: 0, 1, 2, 4 or 8.
  public internal(set) var displacementSize: UInt8 = 0
  /// 0 if there is none. A second immediate follows the first.
  public internal(set) var immediateOffset: UInt8 = 0
  /// In bytes: 0, 1, 2, 4 or 8. A branch's offset counts as an immediate, a far pointer's offset too.
  public internal(set) var immediateSize: UInt8 = 0
  /// Behind the first: ENTER's level, EXTRQ's second byte (1), a far pointer's selector (2).
  public internal(set) var secondImmediateSize: UInt8 = 0

  /// In bytes: 2, 4 or 8, from mode, 66, W and the opcode's default.
  public internal(set) var operandSize: UInt8 = 0
  /// In bytes: 2, 4 or 8, from mode and 67.
  public internal(set) var addressSize: UInt8 = 0
  /// Zero-extended.
  public internal(set) var secondImmediate: UInt16 = 0

  /// The line of the table, 0 for none.
  package internal(set) var form: UInt16 = 0
  var attributes: Form.Attributes = []
  var memorySpecification = OperandSpecification(access: [])

  /// Sign-extended.
  public internal(set) var displacement: Int64 = 0
  /// Sign-extended where the instruction does so, else zero-extended.
  public internal(set) var immediate: Int64 = 0

  /// No instruction: something to decode into.
  public init(mode: CPUMode) {
    self.mode = mode
  }

  /// The opcode is followed by ModRM.
  public var hasModRM: Bool { modRMOffset != 0 }
  /// ModRM.mod.
  public var mod: UInt8 { modRM >> 6 }
  /// ModRM.reg without its extension by REX.R.
  public var reg: UInt8 { modRM >> 3 & 7 }
  /// ModRM.rm without its extension by REX.B.
  public var rm: UInt8 { modRM & 7 }
  /// REX.W or VEX.W.
  public var rexW: Bool { rex & 8 != 0 }

  /// ModRM.rm names memory.
  public var hasModRMMemory: Bool { modRMOffset != 0 && modRM < 0xc0 && !ignoresMod }
  var ignoresMod: Bool {
    encoding == .legacy && opcodeMap == OpcodeMap.escape0F && opcode & 0xfc == 0x20
  }

  /// An override that counts.
  public var segmentOverride: SegmentRegister? { SegmentRegister(rawValue: segmentOverrideNumber) }

  /// A direct branch's target offset from the next instruction.
  public var branchOffset: Int64? {
    switch classification {
    case .jump, .conditionalJump, .loop, .call: immediate
    default: nil
    }
  }

  /// F3 or F2 repeat this string instruction.
  public var isRepeated: Bool {
    !attributes.isDisjoint(with: [.rep, .repeatWhile]) && !prefixes.isDisjoint(with: [.rep, .repne])
  }

  /// BT, BTS, BTR, BTC with a register: the bit offset is signed and reaches beyond the memory operand by its upper
  /// bits (AMD64 APM vol. 3, "BT").
  public var addressesBitString: Bool { attributes.contains(.bitString) && hasModRMMemory }

  /// The mnemonic in Intel's spelling, for people; empty if the table has no line.
  public var mnemonic: String {
    let form = OpcodeTables.shared.forms[Int(self.form)]
    guard let start = UnsafePointer<UInt8>(bitPattern: form.mnemonic) else { return "" }
    var name = String(
      decoding: UnsafeBufferPointer(start: start, count: Int(form.mnemonicLength)), as: UTF8.self)
    if form.attributes.contains(.condition) {
      name = name.dropLast(2) + Self.conditions[Int(opcode & 15)]
    }
    return form.attributes.contains(.vexName) ? "v" + name : name
  }

  private static let conditions = [
    "o", "no", "b", "nb", "z", "nz", "be", "nbe", "s", "ns", "p", "np", "l", "nl", "le", "nle",
  ]
}

extension Instruction {
  /// Some operand's width, or that of an immediate, depends on `operandSize`.
  public var operandSizeMatters: Bool { attributes.contains(.usesOperandSize) }

  /// Of a string or port instruction: how many bytes one step moves. The lowest bit of its opcode tells one byte from the
  /// operand's size; ports have 32 bits at most.
  public var elementSize: Int {
    if opcode & 1 == 0 { return 1 }
    switch operation {
    case .ins, .outs, .in, .out: return min(Int(operandSize), 4)
    default: return Int(operandSize)
    }
  }

  /// ModRM.reg with its extension by REX.R.
  public var numberOfReg: UInt8 { reg | rexR }
  /// ModRM.rm with its extension by REX.B.
  public var numberOfRM: UInt8 { rm | rexB }
}
