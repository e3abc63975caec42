/// What the width of an operand depends on, besides its size letter.
struct WidthContext {
  /// 2, 4 or 8.
  var operandSize: UInt8
  /// VEX.L.
  var isLong: Bool
  var is64Bit: Bool
  var hasW: Bool

  /// Five bits.
  @inline(__always)
  var index: Int {
    Int(operandSize >> 2) | (isLong ? 4 : 0) | (is64Bit ? 8 : 0) | (hasW ? 16 : 0)
  }

  init(operandSize: UInt8, isLong: Bool, is64Bit: Bool, hasW: Bool) {
    self.operandSize = operandSize
    self.isLong = isLong
    self.is64Bit = is64Bit
    self.hasW = hasW
  }

  init(index: Int) {
    self.init(
      operandSize: 2 << UInt8(index & 3), isLong: index & 4 != 0, is64Bit: index & 8 != 0, hasW: index & 16 != 0)
  }
}

/// Widths in bytes by size letter and context, worked out beforehand.
struct Widths: @unchecked Sendable {
  // Sendable although it holds a pointer: what it points to is never written after `init`.
  private let values: UnsafePointer<UInt16>

  init() {
    var values: [UInt16] = []
    for letter in 0...OperandSize.highByte.rawValue {
      for index in 0..<32 {
        values.append(Self.width(OperandSize(rawValue: letter) ?? .none, WidthContext(index: index)))
      }
    }
    self.values = OpcodeTables.keep(values)
  }

  @inline(__always)
  subscript(letter: UInt8, context: WidthContext) -> UInt16 { values[Int(letter) << 5 | context.index] }

  private static func width(_ size: OperandSize, _ context: WidthContext) -> UInt16 {
    let operandSize = UInt16(context.operandSize)
    let vector: UInt16 = context.isLong ? 32 : 16
    switch size {
    case .none: return 0
    case .byte, .highByte: return 1
    case .word: return 2
    case .doubleword: return 4
    case .quadword: return 8
    case .octoword: return 16
    case .doubleOctoword: return 32
    case .operand: return operandSize
    case .operandUpTo4: return min(operandSize, 4)
    case .generalByW: return context.is64Bit && context.hasW ? 8 : 4
    case .vector: return vector
    case .halfVector: return vector / 2
    case .quarterVector: return vector / 4
    case .eighthVector: return vector / 8
    case .movddup: return vector == 32 ? 32 : 8
    case .farPointer: return operandSize + 2
    case .pair: return operandSize * 2
    case .pseudoDescriptor: return context.is64Bit ? 10 : 6
    case .extendedReal: return 10
    case .native: return context.is64Bit ? 8 : 4
    case .x87Environment: return operandSize == 2 ? 14 : 28
    case .x87State: return operandSize == 2 ? 94 : 108
    case .fxsaveArea: return 512
    case .xsaveArea: return 0
    case .cacheLine: return 64
    case .address, .stack: return 0
    }
  }
}
