/// How many bytes one port or memory access moves.
public enum AccessWidth: Int, Sendable, CaseIterable {
  case byte = 1
  case word = 2
  case doubleword = 4
  case quadword = 8

  /// What a bus gives for an access of this width that no device claims.
  public var allOnes: UInt64 { UInt64.max >> UInt64(64 - 8 * rawValue) }
}
