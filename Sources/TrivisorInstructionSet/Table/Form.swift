/// One line of the opcode table, digested: what the bits of an instruction must be for it to match, and what it then
/// means. Decoding looks at the first 24 bytes or so.
struct Form: BitwiseCopyable {
  /// The form matches if `key & mask == value`; the key is put together as `Key` says.
  var mask: UInt32 = 0
  var value: UInt32 = 0
  /// The next form to try for the same opcode; 0 is none.
  var next: UInt16 = 0
  var operation: Operation = .none
  var classification: Classification = .undefined
  var feature: Feature = .base
  var attributes: Attributes = []
  /// That of the operands which ModRM.rm can make memory.
  var memory = OperandSpecification(access: [])

  var immediate: Immediate = .none
  var flags: UInt8 = 0
  var implicitCount: UInt8 = 0
  var operandCount: UInt8 = 0
  var implicitStart: UInt16 = 0
  var mnemonicLength: UInt16 = 0
  var operands: (OperandSpecification, OperandSpecification, OperandSpecification, OperandSpecification) = (
    .init(), .init(), .init(), .init()
  )
  /// Points into the table's text, which lives as long as the program.
  var mnemonic: UInt

  struct Attributes: OptionSet, BitwiseCopyable {
    let rawValue: UInt16
    /// LOCK is allowed if the destination is memory.
    static let lockable = Attributes(rawValue: 1 << 0)
    /// In 64-bit mode the operand size is 8 unless 66 makes it 2.
    static let default64 = Attributes(rawValue: 1 << 1)
    /// 66 is part of the opcode and says nothing about the operand size.
    static let mandatory66 = Attributes(rawValue: 1 << 2)
    /// F3 or F2 repeat it.
    static let rep = Attributes(rawValue: 1 << 3)
    /// They do while ZF is 1 or 0.
    static let repeatWhile = Attributes(rawValue: 1 << 4)
    /// A register bit offset reaches beyond the operand (BT and its like).
    static let bitString = Attributes(rawValue: 1 << 5)
    static let conditionalFlags = Attributes(rawValue: 1 << 6)
    /// The mnemonic ends in a condition by the opcode's low four bits.
    static let condition = Attributes(rawValue: 1 << 7)
    /// The mnemonic begins with v.
    static let vexName = Attributes(rawValue: 1 << 8)
    static let vex = Attributes(rawValue: 1 << 9)
    static let gather = Attributes(rawValue: 1 << 10)
    static let notIn64Bit = Attributes(rawValue: 1 << 11)
    /// Some operand's width is the operand size.
    static let usesOperandSize = Attributes(rawValue: 1 << 12)
    /// REX.W makes the operand size 4, not 8: port I/O, and far pointers by AMD64 APM vol. 3, "LFS" and "JMP (far)".
    static let ignoresW = Attributes(rawValue: 1 << 13)
    /// Memory must be aligned to its width.
    static let aligned = Attributes(rawValue: 1 << 14)
  }

  /// What follows ModRM and displacement.
  enum Immediate: UInt8, BitwiseCopyable {
    case none
    case byte, signedByte, word, upTo4, full, relativeByte, relative, farPointer, wordAndByte, twoBytes
    /// Not an immediate but an address-sized displacement.
    case directOffset
  }
}

/// The bits that decide between the forms of one opcode.
enum Key {
  static let modRM: UInt32 = 0xff
  static let regShift: UInt32 = 3
  static let reg: UInt32 = 7 << 3
  /// 0 none, 1 for 66, 2 for F3, 3 for F2: VEX.pp, or the legacy prefix that counts as part of the opcode.
  static let simdPrefixShift: UInt32 = 8
  static let simdPrefix: UInt32 = 3 << 8
  static let simdPrefixIsRepeat: UInt32 = 2 << 8
  static let w: UInt32 = 1 << 10
  static let l: UInt32 = 1 << 11
  static let bits64: UInt32 = 1 << 12
  static let modIs3: UInt32 = 1 << 13
  static let b: UInt32 = 1 << 14
  static let vvvvIsUnused: UInt32 = 1 << 15
  /// 0, 1, 2 for 2, 4, 8 bytes.
  static let operandSizeShift: UInt32 = 16
  static let operandSize: UInt32 = 3 << 16
}

/// The opcode maps that have forms.
enum FormMap: Int {
  case oneByte, escape0F, escape0F38, escape0F3A, vex0F, vex0F38, vex0F3A
  static let count = 7
}
