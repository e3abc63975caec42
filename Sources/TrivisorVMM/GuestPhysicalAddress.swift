/// An address on the guest's memory bus: what page tables hold, and what a device is given for DMA. An address in a
/// guest's instruction is a *linear* one and becomes physical only by the guest's page tables.
public struct GuestPhysicalAddress: RawRepresentable, Codable, Hashable, Comparable, Sendable {
  /// The address in bytes.
  public var rawValue: UInt64

  /// Takes any 64-bit value; whether memory or a device answers there is the memory map's business.
  public init(rawValue: UInt64) { self.rawValue = rawValue }

  /// The same as `init(rawValue:)`, without the label.
  public init(_ rawValue: UInt64) { self.rawValue = rawValue }

  /// Orders by address.
  public static func < (lhs: Self, rhs: Self) -> Bool { lhs.rawValue < rhs.rawValue }

  /// The address `offset` bytes further, or `nil` past the end of the 64-bit space: the usual form for offsets that
  /// a guest or an image chose.
  public func advanced(by offset: UInt64) -> GuestPhysicalAddress? {
    let (sum, overflow) = rawValue.addingReportingOverflow(offset)
    return overflow ? nil : GuestPhysicalAddress(sum)
  }
}

extension GuestPhysicalAddress: CustomStringConvertible {
  /// In hexadecimal with a prefix, as everywhere in the field.
  public var description: String { hexadecimal(rawValue) }
}

/// `value` as `0x…`, without leading zeros unless `digits` asks for them.
public func hexadecimal(_ value: UInt64, digits: Int = 0) -> String {
  let text = String(value, radix: 16)
  return "0x" + String(repeating: "0", count: max(0, digits - text.count)) + text
}
