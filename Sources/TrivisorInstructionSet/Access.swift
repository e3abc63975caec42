/// What happens to an operand.
public struct Access: OptionSet, Sendable, Hashable, BitwiseCopyable {
  /// See the constants.
  public let rawValue: UInt8

  /// A set of these bits.
  public init(rawValue: UInt8) {
    self.rawValue = rawValue
  }

  /// Read, whatever the values are.
  public static let read = Access(rawValue: 1)
  /// Written, whatever the values are.
  public static let write = Access(rawValue: 2)
  /// Read only if a condition, a mask or a repeat count says so.
  public static let conditionalRead = Access(rawValue: 4)
  /// Written only if a condition, a mask or a repeat count says so.
  public static let conditionalWrite = Access(rawValue: 8)

  /// Read, perhaps under a condition.
  public var mayRead: Bool { rawValue & 5 != 0 }
  /// Written, perhaps under a condition.
  public var mayWrite: Bool { rawValue & 10 != 0 }
}
