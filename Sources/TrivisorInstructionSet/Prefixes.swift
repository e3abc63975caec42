/// The prefixes in front of an opcode, as far as they count.
///
/// Of several segment overrides the last one counts, and in 64-bit mode only FS and GS are overrides at all; of F2 and
/// F3 the last one counts; a REX prefix that isn't directly before the opcode does not (AMD64 APM vol. 3, 1.2).
public struct Prefixes: OptionSet, Sendable, Hashable, BitwiseCopyable {
  /// See the constants.
  public let rawValue: UInt8

  /// A set of these bits.
  public init(rawValue: UInt8) {
    self.rawValue = rawValue
  }

  /// 66.
  public static let operandSize = Prefixes(rawValue: 1 << 0)
  /// 67.
  public static let addressSize = Prefixes(rawValue: 1 << 1)
  /// F0.
  public static let lock = Prefixes(rawValue: 1 << 2)
  /// F3 is present and no F2 comes after it: REP, REPE, or part of the opcode.
  public static let rep = Prefixes(rawValue: 1 << 3)
  /// F2 is present and no F3 comes after it: REPNE, or part of the opcode.
  public static let repne = Prefixes(rawValue: 1 << 4)
  /// A REX prefix counts, if only by making SPL, BPL, SIL and DIL of AH, CH, DH and BH.
  public static let rex = Prefixes(rawValue: 1 << 5)
}
