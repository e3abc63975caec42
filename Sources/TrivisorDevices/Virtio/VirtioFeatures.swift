/// Feature bits that do not belong to one device type (virtio 1.2, chapter 6); the lower ones do.
public struct VirtioFeatures: OptionSet, Codable, Sendable, Hashable {
  /// The 64 bits as they are offered and accepted.
  public let rawValue: UInt64
  /// Takes the bits.
  public init(rawValue: UInt64) { self.rawValue = rawValue }

  /// A bit of a device type.
  public static func bit(_ number: Int) -> VirtioFeatures { VirtioFeatures(rawValue: 1 << UInt64(number)) }

  /// Descriptors may point to tables of descriptors.
  public static let indirectDescriptors = bit(28)
  /// Either side says at which index it wants to be told.
  public static let eventIndex = bit(29)
  /// Not a legacy device; always offered, and a driver must accept it.
  public static let version1 = bit(32)
}
