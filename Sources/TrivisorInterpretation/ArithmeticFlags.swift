/// The six arithmetic flags of RFLAGS, as the manuals say that an operation leaves them (Intel SDM vol. 1, 3.4.3.1).
///
/// What an instruction leaves undefined is here what it would be by the rule for the others, or clear.
struct ArithmeticFlags {
  static let carry: UInt64 = 1 << 0
  static let parity: UInt64 = 1 << 2
  static let auxiliary: UInt64 = 1 << 4
  static let zero: UInt64 = 1 << 6
  static let sign: UInt64 = 1 << 7
  static let overflow: UInt64 = 1 << 11
  static let all = carry | parity | auxiliary | zero | sign | overflow

  /// One bit for each value of four bits: whether the number of its ones is even.
  private static let evenParities: UInt64 = 0x9669

  /// Of a result, as of every operation: SF, ZF and PF.
  /// - Parameter top: the highest bit of the operand's size.
  @inline(__always)
  static func of(_ result: UInt64, top: UInt64) -> UInt64 {
    let low = (result ^ result >> 4) & 15
    return (result == 0 ? zero : 0) | (result & top != 0 ? sign : 0) | (evenParities >> low & 1) << 2
  }

  /// Of the sum of `a`, `b` and a carry.
  @inline(__always)
  static func sum(_ result: UInt64, _ a: UInt64, _ b: UInt64, top: UInt64) -> UInt64 {
    let carries = a & b | (a | b) & ~result
    return of(result, top: top) | (carries & top != 0 ? carry : 0) | (a ^ b ^ result) & auxiliary
      | (~(a ^ b) & (a ^ result) & top != 0 ? overflow : 0)
  }

  /// Of `a` less `b` and a borrow.
  @inline(__always)
  static func difference(_ result: UInt64, _ a: UInt64, _ b: UInt64, top: UInt64) -> UInt64 {
    let borrows = ~a & b | (~a | b) & result
    return of(result, top: top) | (borrows & top != 0 ? carry : 0) | (a ^ b ^ result) & auxiliary
      | ((a ^ b) & (a ^ result) & top != 0 ? overflow : 0)
  }

  /// Whether a condition holds, by its number in Jcc, SETcc and CMOVcc.
  @inline(__always)
  static func satisfy(_ flags: UInt64, condition: UInt8) -> Bool {
    let holds =
      switch condition >> 1 {
      case 0: flags & overflow != 0
      case 1: flags & carry != 0
      case 2: flags & zero != 0
      case 3: flags & (carry | zero) != 0
      case 4: flags & sign != 0
      case 5: flags & parity != 0
      case 6: isLess(flags)
      default: isLess(flags) || flags & zero != 0
      }
    return holds != (condition & 1 != 0)
  }

  @inline(__always)
  private static func isLess(_ flags: UInt64) -> Bool { (flags & sign != 0) != (flags & overflow != 0) }
}
