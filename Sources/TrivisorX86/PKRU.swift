/// PKRU: what the protection keys of user pages take from their rights (AMD64 APM vol. 2, 5.6.7; Intel SDM vol. 3, 4.6.2).
public struct PKRU: Sendable, Hashable, BitwiseCopyable {
  /// Two bits for each of sixteen keys: AD, then WD.
  public var rawValue: UInt32

  /// - Parameter rawValue: any.
  @inlinable
  public init(rawValue: UInt32) { self.rawValue = rawValue }

  /// After RESET: nothing is taken.
  @inlinable public static var none: PKRU { PKRU(rawValue: 0) }

  /// AD: neither loads nor stores.
  @inlinable
  public func forbidsAccess(_ key: UInt8) -> Bool { rawValue >> (2 * UInt32(key)) & 1 != 0 }

  /// WD: no stores; CPL 0 to 2 heeds it where CR0.WP is 1.
  @inlinable
  public func forbidsWriting(_ key: UInt8) -> Bool { rawValue >> (2 * UInt32(key)) & 2 != 0 }

  /// A bit for each key of which this takes something that `other` leaves.
  @inlinable
  public func keysWithLess(than other: PKRU) -> UInt16 {
    let taken = rawValue & ~other.rawValue
    return (0..<16).reduce(0) { keys, key in taken >> (2 * UInt32(key)) & 3 == 0 ? keys : keys | 1 << UInt16(key) }
  }
}
