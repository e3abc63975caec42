/// What a segment register holds (AMD64 APM vol. 2, 4.5.1).
public struct Selector: RawRepresentable, Sendable, Hashable, BitwiseCopyable {
  /// Sixteen bits.
  public var rawValue: UInt16

  /// Any value.
  @inlinable
  public init(rawValue: UInt16) { self.rawValue = rawValue }

  /// RPL.
  @inlinable public var requestedPrivilege: UInt8 { UInt8(truncatingIfNeeded: rawValue & 3) }
  /// TI: the descriptor is in the local table.
  @inlinable public var isLocal: Bool { rawValue & 4 != 0 }
  /// Offset in the table, in bytes.
  @inlinable public var offset: UInt16 { rawValue & ~7 }
  /// It names no segment: one of the four of the global table's first entry.
  @inlinable public var isNull: Bool { rawValue & ~3 == 0 }
}
