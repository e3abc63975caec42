/// What follows a ModRM byte (AMD64 APM vol. 3, tables 1-14 and 1-15).
struct ModRMLayout: BitwiseCopyable {
  var displacementSize: UInt8 = 0
  /// The SIB byte may ask for a displacement where ModRM doesn't.
  var hasSIB = false

  /// Twice 256 entries: first for addresses of 16 bits, then for those of 32 and 64.
  static let table: [ModRMLayout] = (0..<512).map { index in
    let mod = index >> 6 & 3
    let rm = index & 7
    var layout = ModRMLayout()
    if mod == 3 { return layout }
    let isShort = index < 256
    layout.hasSIB = !isShort && rm == 4
    switch mod {
    case 0: layout.displacementSize = isShort ? (rm == 6 ? 2 : 0) : (rm == 5 ? 4 : 0)
    case 1: layout.displacementSize = 1
    default: layout.displacementSize = isShort ? 2 : 4
    }
    return layout
  }
}

/// How wide an immediate is, by its kind and the operand size.
struct ImmediateLayout: BitwiseCopyable {
  var size: UInt8 = 0
  var second: UInt8 = 0
  var isSigned = false

  /// Four entries for each `Form.Immediate`: operand sizes 2, 4, 8, and one unused.
  static let table: [ImmediateLayout] = (0..<(Int(Form.Immediate.directOffset.rawValue) + 1) * 4).map { index in
    let operandSize = UInt8(2) << UInt8(index & 3)
    let upTo4 = min(operandSize, 4)
    return switch Form.Immediate(rawValue: UInt8(index / 4)) ?? .none {
    case .none, .directOffset: ImmediateLayout()
    case .byte: ImmediateLayout(size: 1)
    case .signedByte, .relativeByte: ImmediateLayout(size: 1, isSigned: true)
    case .word: ImmediateLayout(size: 2)
    case .upTo4, .relative: ImmediateLayout(size: upTo4, isSigned: true)
    case .full: ImmediateLayout(size: operandSize)
    case .farPointer: ImmediateLayout(size: upTo4, second: 2)
    case .wordAndByte: ImmediateLayout(size: 2, second: 1)
    case .twoBytes: ImmediateLayout(size: 1, second: 1)
    }
  }
}
