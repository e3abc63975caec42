/// Makes instructions of the kinds that are interpreted, with random operands.
struct InstructionMaker {
  /// One kind, and what of the flags it leaves undefined.
  struct Kind {
    let name: String
    let opcode: [UInt8]
    /// ModRM.reg, if it is part of the opcode.
    var field: UInt8?
    var hasModRM = true
    var immediate = Immediate.none
    var sizes: [Size] = [.word, .double, .quad]
    var undefined = Undefined.nothing
    /// Its low bits name a register.
    var namesRegister = false
    var isRegisterOnly = false
    var isMemoryOnly = false
  }

  enum Immediate { case none, byte, full, quad }
  enum Size { case byte, word, double, quad }
  enum Undefined { case nothing, logic, shift, shiftByCL, shiftByOne, product, bitTest }

  static let auxiliary: UInt64 = 1 << 4, carry: UInt64 = 1, overflow: UInt64 = 1 << 11
  static let parity: UInt64 = 1 << 2, zero: UInt64 = 1 << 6, sign: UInt64 = 1 << 7

  static let kinds: [Kind] = {
    var kinds: [Kind] = []
    for (number, name) in ["add", "or", "adc", "sbb", "and", "sub", "xor", "cmp"].enumerated() {
      let undefined: Undefined = ["or", "and", "xor"].contains(name) ? .logic : .nothing
      let base = UInt8(number * 8)
      for (opcode, sizes) in [(base, [Size.byte]), (base + 1, wide), (base + 2, [.byte]), (base + 3, wide)] {
        kinds.append(Kind(name: name, opcode: [opcode], sizes: sizes, undefined: undefined))
      }
      kinds.append(
        Kind(name: name, opcode: [base + 4], hasModRM: false, immediate: .byte, sizes: [.byte], undefined: undefined))
      kinds.append(Kind(name: name, opcode: [base + 5], hasModRM: false, immediate: .full, undefined: undefined))
      let field = UInt8(number)
      kinds.append(
        Kind(name: name, opcode: [0x80], field: field, immediate: .byte, sizes: [.byte], undefined: undefined))
      kinds.append(Kind(name: name, opcode: [0x81], field: field, immediate: .full, undefined: undefined))
      kinds.append(Kind(name: name, opcode: [0x83], field: field, immediate: .byte, undefined: undefined))
    }
    for (opcode, sizes) in [(0x88, [Size.byte]), (0x89, wide), (0x8a, [.byte]), (0x8b, wide)] {
      kinds.append(Kind(name: "mov", opcode: [UInt8(opcode)], sizes: sizes))
    }
    kinds.append(Kind(name: "mov", opcode: [0xc6], field: 0, immediate: .byte, sizes: [.byte]))
    kinds.append(Kind(name: "mov", opcode: [0xc7], field: 0, immediate: .full))
    kinds.append(
      Kind(name: "mov", opcode: [0xb0], hasModRM: false, immediate: .byte, sizes: [.byte], namesRegister: true))
    kinds.append(
      Kind(
        name: "mov", opcode: [0xb8], hasModRM: false, immediate: .full, sizes: [.word, .double], namesRegister: true))
    kinds.append(
      Kind(name: "mov", opcode: [0xb8], hasModRM: false, immediate: .quad, sizes: [.quad], namesRegister: true))
    for opcode: UInt8 in [0xb6, 0xb7, 0xbe, 0xbf] {
      kinds.append(Kind(name: opcode < 0xb8 ? "movzx" : "movsx", opcode: [0x0f, opcode]))
    }
    kinds.append(Kind(name: "movsxd", opcode: [0x63], sizes: [.quad]))
    kinds.append(Kind(name: "lea", opcode: [0x8d], isMemoryOnly: true))
    kinds.append(Kind(name: "test", opcode: [0x84], sizes: [.byte], undefined: .logic))
    kinds.append(Kind(name: "test", opcode: [0x85], undefined: .logic))
    kinds.append(
      Kind(name: "test", opcode: [0xf6], field: 0, immediate: .byte, sizes: [.byte], undefined: .logic))
    kinds.append(Kind(name: "test", opcode: [0xf7], field: 0, immediate: .full, undefined: .logic))
    kinds.append(
      Kind(name: "test", opcode: [0xa8], hasModRM: false, immediate: .byte, sizes: [.byte], undefined: .logic))
    kinds.append(Kind(name: "test", opcode: [0xa9], hasModRM: false, immediate: .full, undefined: .logic))
    for (field, name) in [(UInt8(0), "inc"), (1, "dec")] {
      kinds.append(Kind(name: name, opcode: [0xfe], field: field, sizes: [.byte]))
      kinds.append(Kind(name: name, opcode: [0xff], field: field))
    }
    for (field, name) in [(UInt8(2), "not"), (3, "neg")] {
      kinds.append(Kind(name: name, opcode: [0xf6], field: field, sizes: [.byte]))
      kinds.append(Kind(name: name, opcode: [0xf7], field: field))
    }
    for (field, name) in [(UInt8(4), "shl"), (5, "shr"), (7, "sar")] {
      for (opcode, sizes) in [(UInt8(0), [Size.byte]), (1, wide)] {
        kinds.append(
          Kind(
            name: name, opcode: [0xc0 + opcode], field: field, immediate: .byte, sizes: sizes, undefined: .shift))
        kinds.append(
          Kind(name: name, opcode: [0xd2 + opcode], field: field, sizes: sizes, undefined: .shiftByCL))
        kinds.append(
          Kind(name: name, opcode: [0xd0 + opcode], field: field, sizes: sizes, undefined: .shiftByOne))
      }
    }
    kinds.append(Kind(name: "imul", opcode: [0x0f, 0xaf], undefined: .product))
    kinds.append(Kind(name: "imul", opcode: [0x69], immediate: .full, undefined: .product))
    kinds.append(Kind(name: "imul", opcode: [0x6b], immediate: .byte, undefined: .product))
    kinds.append(Kind(name: "bt", opcode: [0x0f, 0xa3], undefined: .bitTest, isRegisterOnly: true))
    kinds.append(
      Kind(name: "bt", opcode: [0x0f, 0xba], field: 4, immediate: .byte, undefined: .bitTest, isRegisterOnly: true))
    kinds.append(
      Kind(name: "bswap", opcode: [0x0f, 0xc8], hasModRM: false, sizes: [.double, .quad], namesRegister: true))
    kinds.append(Kind(name: "cbw, cwde, cdqe", opcode: [0x98], hasModRM: false))
    kinds.append(Kind(name: "cwd, cdq, cqo", opcode: [0x99], hasModRM: false))
    for condition in 0..<16 as Range<UInt8> {
      kinds.append(Kind(name: "cmovcc", opcode: [0x0f, 0x40 + condition]))
      kinds.append(Kind(name: "setcc", opcode: [0x0f, 0x90 + condition], sizes: [.byte]))
    }
    kinds.append(Kind(name: "push", opcode: [0x50], hasModRM: false, sizes: [.double], namesRegister: true))
    kinds.append(Kind(name: "push", opcode: [0x68], hasModRM: false, immediate: .full, sizes: [.double]))
    kinds.append(Kind(name: "push", opcode: [0x6a], hasModRM: false, immediate: .byte, sizes: [.double]))
    kinds.append(Kind(name: "push", opcode: [0xff], field: 6, sizes: [.double]))
    kinds.append(Kind(name: "pop", opcode: [0x58], hasModRM: false, sizes: [.double], namesRegister: true))
    kinds.append(Kind(name: "leave", opcode: [0xc9], hasModRM: false, sizes: [.double]))
    kinds.append(Kind(name: "xchg", opcode: [0x87], isRegisterOnly: true))
    kinds.append(Kind(name: "xchg", opcode: [0x90], hasModRM: false, namesRegister: true))
    kinds.append(Kind(name: "nop", opcode: [0x0f, 0x1f], field: 0))
    return kinds
  }()

  private static let wide: [Size] = [.word, .double, .quad]

  /// The registers that point into the data, and the one that is a small number.
  static let bases: [UInt8] = [3, 5, 12]
  static let index: UInt8 = 14

  /// An instruction of a kind.
  static func make(_ kind: Kind, using random: inout some RandomNumberGenerator) -> (bytes: [UInt8], size: Size) {
    let size = kind.sizes.randomElement(using: &random) ?? .double
    var rex: UInt8 = size == .quad ? 8 : 0
    var rest: [UInt8] = []
    if kind.namesRegister, Bool.random(using: &random) { rex |= 1 }
    var opcode = kind.opcode
    if kind.namesRegister { opcode[opcode.count - 1] += UInt8.random(in: 0..<8, using: &random) }
    if kind.hasModRM {
      let field = kind.field ?? UInt8.random(in: 0..<8, using: &random)
      if kind.field == nil, Bool.random(using: &random) { rex |= 4 }
      if kind.isRegisterOnly || !kind.isMemoryOnly && Bool.random(using: &random) {
        rest.append(0xc0 | field << 3 | UInt8.random(in: 0..<8, using: &random))
        if Bool.random(using: &random) { rex |= 1 }
      } else {
        let base = bases.randomElement(using: &random) ?? 3
        if base >= 8 { rex |= 1 }
        let displacement = Int32.random(in: -1000...1000, using: &random)
        let hasIndex = base & 7 == 4 || Bool.random(using: &random)
        let isShort = Int8(exactly: displacement) != nil
        rest.append((isShort ? 0x40 : 0x80) | field << 3 | (hasIndex ? 4 : base & 7))
        if hasIndex {
          rex |= 2
          rest.append(UInt8.random(in: 0..<4, using: &random) << 6 | (index & 7) << 3 | base & 7)
        }
        rest += withUnsafeBytes(of: displacement) { Array($0.prefix(isShort ? 1 : 4)) }
      }
    }
    let immediateSize =
      switch kind.immediate {
      case .none: 0
      case .byte: 1
      case .full: size == .word ? 2 : 4
      case .quad: 8
      }
    rest += (0..<immediateSize).map { _ in
      [0, 0xff, 0x7f, 0x80, UInt8.random(in: 0...255, using: &random)].randomElement(using: &random) ?? 0
    }
    // REX alone makes SPL to DIL of AH to BH.
    let hasREX = rex != 0 || size == .byte && Bool.random(using: &random)
    return ((size == .word ? [0x66] : []) + (hasREX ? [0x40 | rex] : []) + opcode + rest, size)
  }

  /// Flags that an instruction of a kind leaves undefined.
  static func undefinedFlags(_ kind: Kind, _ size: Size, _ bytes: [UInt8], count register: UInt64) -> UInt64 {
    switch kind.undefined {
    case .nothing: return 0
    case .logic: return auxiliary
    case .product: return sign | zero | auxiliary | parity
    case .bitTest: return overflow | sign | auxiliary | parity
    case .shift, .shiftByCL, .shiftByOne:
      let typed =
        kind.undefined == .shift ? UInt64(bytes[bytes.count - 1]) : kind.undefined == .shiftByCL ? register & 0xff : 1
      let count = typed & (size == .quad ? 63 : 31)
      let width: UInt64 = size == .byte ? 8 : size == .word ? 16 : 64
      guard count > 0 else { return 0 }
      return auxiliary | (count == 1 ? 0 : overflow) | (count > width ? carry : 0)
    }
  }
}
