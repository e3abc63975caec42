/// The address of an Ethernet interface.
public struct MACAddress: Sendable, Hashable, Codable, CustomStringConvertible {
  /// Six of them.
  public let bytes: [UInt8]

  /// - Returns: `nil` unless these are six bytes that an interface can have: not zero, and not a group's.
  public init?(_ bytes: [UInt8]) {
    guard bytes.count == 6, bytes[0] & 1 == 0, bytes.contains(where: { $0 != 0 }) else { return nil }
    self.bytes = bytes
  }

  /// From six pairs of hexadecimal digits with colons between them.
  public init?(_ text: String) {
    let parts = text.split(separator: ":", omittingEmptySubsequences: false)
    let bytes = parts.compactMap { part in
      part.utf8.count == 2 && part.allSatisfy(\.isHexDigit) ? UInt8(part, radix: 16) : nil
    }
    guard bytes.count == parts.count else { return nil }
    self.init(bytes)
  }

  /// One that nobody has: of the locally administered kind (IEEE 802, 8.2).
  public static func random() -> MACAddress {
    MACAddress(locallyAdministered: (0..<5).map { _ in UInt8.random(in: 0...255) })
  }

  /// - Parameter rest: the five bytes behind the first.
  private init(locallyAdministered rest: [UInt8]) { bytes = [2] + rest }

  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    guard let address = MACAddress(try container.decode([UInt8].self)) else {
      throw DecodingError.dataCorruptedError(in: container, debugDescription: "no address of an Ethernet interface")
    }
    self = address
  }

  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(bytes)
  }

  /// As it is usually written.
  public var description: String {
    bytes.map { byte in
      let digits = String(byte, radix: 16)
      return digits.utf8.count == 1 ? "0" + digits : digits
    }.joined(separator: ":")
  }
}
