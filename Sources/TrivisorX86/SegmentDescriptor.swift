/// Eight bytes of a descriptor table (AMD64 APM vol. 2, 4.7 and 4.8).
///
///     63      56 55 52 51 48 47        40 39            16 15      0
///     base 31–24 G D L A limit P DPL S type  base 23–0      limit 15–0     segment
///     offset 31–16           P DPL 0 type  count  selector  offset 15–0    gate
public struct SegmentDescriptor: RawRepresentable, Sendable, Hashable, BitwiseCopyable {
  /// As in memory, little endian.
  public var rawValue: UInt64

  /// In bytes.
  @inlinable public static var size: UInt16 { 8 }

  /// Any eight bytes.
  @inlinable
  public init(rawValue: UInt64) { self.rawValue = rawValue }

  /// A segment's descriptor; `limit` is in bytes, or in pages where the attributes have G.
  public init(base: UInt32, limit: UInt32, attributes: SegmentAttributes) {
    let attributes = UInt64(attributes.rawValue)
    rawValue =
      UInt64(limit & 0xffff) | UInt64(base & 0xff_ffff) << 16 | (attributes & 0xff) << 40
      | UInt64(limit >> 16 & 15) << 48 | (attributes >> 12) << 52 | UInt64(base >> 24) << 56
  }

  /// Type and rights.
  @inlinable public var attributes: SegmentAttributes {
    get { SegmentAttributes(rawValue: UInt16(truncatingIfNeeded: rawValue >> 40) & 0xf0ff) }
    set {
      let bits = UInt64(newValue.rawValue & 0xf0ff) << 40
      rawValue = rawValue & ~(0xf0ff << 40) | bits
    }
  }
  /// The low 32 bits of the linear address; system segments of long mode have the rest in the eight bytes that follow.
  @inlinable public var base: UInt32 {
    UInt32(truncatingIfNeeded: rawValue >> 16 & 0xff_ffff | (rawValue >> 56) << 24)
  }
  /// The last valid offset in bytes.
  @inlinable public var limit: UInt32 {
    let field = UInt32(truncatingIfNeeded: rawValue & 0xffff | rawValue >> 32 & 0xf_0000)
    return attributes.contains(.granularity) ? field << 12 | 0xfff : field
  }

  /// What LAR gives: the second doubleword without base and limit (AMD64 APM vol. 3, "LAR").
  @inlinable public var accessRights: UInt64 { rawValue >> 32 & 0xff_ff00 }
  /// Of the byte with type, S, DPL and P, in bytes from the descriptor's first.
  @inlinable public static var attributesOffset: UInt64 { 5 }

  /// A gate's target selector.
  @inlinable public var gateSelector: UInt16 { UInt16(truncatingIfNeeded: rawValue >> 16) }
  /// A gate's target offset, its low 32 bits.
  @inlinable public var gateOffset: UInt32 {
    UInt32(truncatingIfNeeded: rawValue & 0xffff | rawValue >> 32 & 0xffff_0000)
  }
  /// A call gate's parameters, in words of its size.
  @inlinable public var parameterCount: UInt8 { UInt8(truncatingIfNeeded: rawValue >> 32 & 31) }
  /// An interrupt or trap gate's entry of the interrupt stack table, or 0 (long mode).
  @inlinable public var interruptStack: UInt8 { UInt8(truncatingIfNeeded: rawValue >> 32 & 7) }
}
