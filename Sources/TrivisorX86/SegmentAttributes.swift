/// A segment's type and rights: bits 8 to 15 of the descriptor's second doubleword in bits 0 to 7, its bits 20 to 23 in
/// bits 12 to 15, as VMX and SVM keep them (AMD64 APM vol. 2, 4.7 and 15.5.1).
public struct SegmentAttributes: OptionSet, Sendable, Hashable, BitwiseCopyable {
  /// The register's value.
  public var rawValue: UInt16

  /// The bits of this value, named or not.
  @inlinable
  public init(rawValue: UInt16) { self.rawValue = rawValue }

  /// A, of code and data. Of system segments, the types are numbers.
  @inlinable public static var accessed: SegmentAttributes { SegmentAttributes(rawValue: 1 << 0) }
  /// W, of data.
  @inlinable public static var writable: SegmentAttributes { SegmentAttributes(rawValue: 1 << 1) }
  /// E, of data: what lies above the limit.
  @inlinable public static var expandDown: SegmentAttributes { SegmentAttributes(rawValue: 1 << 2) }
  /// Code, not data.
  @inlinable public static var code: SegmentAttributes { SegmentAttributes(rawValue: 1 << 3) }
  /// S: no system segment.
  @inlinable public static var codeOrData: SegmentAttributes { SegmentAttributes(rawValue: 1 << 4) }
  /// P.
  @inlinable public static var present: SegmentAttributes { SegmentAttributes(rawValue: 1 << 7) }
  /// AVL.
  @inlinable public static var available: SegmentAttributes { SegmentAttributes(rawValue: 1 << 12) }
  /// L: 64-bit code.
  @inlinable public static var long: SegmentAttributes { SegmentAttributes(rawValue: 1 << 13) }
  /// D/B: operands, or the stack pointer, are 32 bits wide.
  @inlinable public static var big: SegmentAttributes { SegmentAttributes(rawValue: 1 << 14) }
  /// G: the descriptor's limit counts in pages.
  @inlinable public static var granularity: SegmentAttributes { SegmentAttributes(rawValue: 1 << 15) }

  /// R, of code.
  @inlinable public static var readable: SegmentAttributes { .writable }
  /// C, of code: runs with its caller's CPL.
  @inlinable public static var conforming: SegmentAttributes { .expandDown }
  /// Of a task-state segment: a task runs or is suspended in it.
  @inlinable public static var busy: SegmentAttributes { .writable }
  /// The type field.
  @inlinable public static var type: SegmentAttributes { SegmentAttributes(rawValue: 15) }
  /// The DPL field.
  @inlinable public static var privilegeLevel: SegmentAttributes { SegmentAttributes(rawValue: 3 << 5) }

  /// A present segment of this DPL.
  @inlinable public static func present(privilege: UInt8) -> SegmentAttributes {
    SegmentAttributes(rawValue: UInt16(privilege & 3) << 5).union(.present)
  }

  /// Bits 8 to 11, where the descriptor has the limit's upper part: always 0 here.
  @inlinable public static var reserved: SegmentAttributes { SegmentAttributes(rawValue: 15 << 8) }

  /// DPL, 0 to 3.
  @inlinable public var privilege: UInt8 {
    get { UInt8(truncatingIfNeeded: rawValue >> 5 & 3) }
    set { rawValue = rawValue & ~(3 << 5) | UInt16(newValue & 3) << 5 }
  }
  /// The type field, for system segments.
  @inlinable public var systemType: SystemSegmentType? {
    contains(.codeOrData) ? nil : SystemSegmentType(rawValue: UInt8(truncatingIfNeeded: rawValue & 15))
  }

  /// Neither code nor data: a system segment or a gate.
  @inlinable public var isSystem: Bool { !contains(.codeOrData) }
  /// A code segment.
  @inlinable public var isCode: Bool { contains([.codeOrData, .code]) }
  /// Code that its caller's CPL runs.
  @inlinable public var isConformingCode: Bool { contains([.codeOrData, .code, .conforming]) }
  /// Code or data that may be read.
  @inlinable public var isReadable: Bool { !isSystem && (!contains(.code) || contains(.readable)) }
  /// Data that may be written.
  @inlinable public var isWritable: Bool { contains([.codeOrData, .writable]) && !contains(.code) }
}
