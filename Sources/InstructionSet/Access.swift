/// What happens to an operand.
public struct Access: OptionSet, Sendable, Hashable, BitwiseCopyable {
  public let rawValue: UInt8

  public init(rawValue: UInt8) {
    self.rawValue = rawValue
  }

  public static let read = Access(rawValue: 1)
  public static let write = Access(rawValue: 2)
  /// Read only if a condition, a mask or a repeat count says so.
  public static let conditionalRead = Access(rawValue: 4)
  /// Written only if a condition, a mask or a repeat count says so.
  public static let conditionalWrite = Access(rawValue: 8)

  public var mayRead: Bool { rawValue & 5 != 0 }
  public var mayWrite: Bool { rawValue & 10 != 0 }
}
