/// One segment register with its hidden part (AMD64 APM vol. 2, 4.5 and 4.7).
public struct Segment: Sendable, Equatable {
  /// What the guest sees.
  public var selector: UInt16
  /// Linear address of its first byte.
  public var base: UInt64
  /// Last valid offset, in bytes (granularity applied).
  public var limit: UInt32
  /// Type and rights. G is redundant: `limit` is in bytes.
  public var attributes: SegmentAttributes
  /// A null selector was loaded: using the segment faults outside 64-bit mode.
  public var isUnusable: Bool

  /// All of a segment register.
  public init(selector: UInt16, base: UInt64, limit: UInt32, attributes: SegmentAttributes, isUnusable: Bool = false) {
    self.selector = selector
    self.base = base
    self.limit = limit
    self.attributes = attributes
    self.isUnusable = isUnusable
  }

  /// Real mode: base is sixteen times the selector, 64 KiB.
  public static func real(_ selector: UInt16, code: Bool = false) -> Segment {
    Segment(
      selector: selector, base: UInt64(selector) << 4, limit: 0xffff, attributes: code ? .realCode : .realData)
  }

  /// Flat 4 GiB, 32-bit code of this privilege.
  public static func flatCode32(selector: UInt16, privilege: UInt8 = 0) -> Segment {
    Segment(selector: selector, base: 0, limit: .max, attributes: .flatCode32(privilege: privilege))
  }

  /// Flat 64-bit code of this privilege.
  public static func flatCode64(selector: UInt16, privilege: UInt8 = 0) -> Segment {
    Segment(selector: selector, base: 0, limit: .max, attributes: .flatCode64(privilege: privilege))
  }

  /// Flat 4 GiB, 32-bit data of this privilege.
  public static func flatData(selector: UInt16, privilege: UInt8 = 0) -> Segment {
    Segment(selector: selector, base: 0, limit: .max, attributes: .flatData(privilege: privilege))
  }

  /// What loading a null selector leaves: flat, but not to be used outside 64-bit mode.
  public static func null(_ selector: UInt16 = 0, privilege: UInt8 = 0) -> Segment {
    Segment(
      selector: selector, base: 0, limit: .max, attributes: .flatData(privilege: privilege), isUnusable: true)
  }

  /// No LDT, as after RESET.
  public static let resetLocalDescriptorTable = Segment(
    selector: 0, base: 0, limit: 0xffff, attributes: .system(.localDescriptorTable))
  /// The TSS after RESET: present and busy, 64 KiB at 0.
  public static let resetTask = Segment(selector: 0, base: 0, limit: 0xffff, attributes: .system(.busyTask))
}

extension SegmentAttributes {
  /// Code as RESET leaves CS: readable, accessed, 16 bits.
  @inlinable public static var realCode: SegmentAttributes {
    [.accessed, .readable, .code, .codeOrData, .present]
  }
  /// Data as RESET leaves DS.
  @inlinable public static var realData: SegmentAttributes { [.accessed, .writable, .codeOrData, .present] }

  /// Readable 32-bit code with its limit in pages.
  @inlinable public static func flatCode32(privilege: UInt8 = 0) -> SegmentAttributes {
    .present(privilege: privilege).union([.accessed, .readable, .code, .codeOrData, .big, .granularity])
  }
  /// Readable 64-bit code with its limit in pages.
  @inlinable public static func flatCode64(privilege: UInt8 = 0) -> SegmentAttributes {
    .present(privilege: privilege).union([.accessed, .readable, .code, .codeOrData, .long, .granularity])
  }
  /// Writable data with its limit in pages.
  @inlinable public static func flatData(privilege: UInt8 = 0) -> SegmentAttributes {
    .present(privilege: privilege).union([.accessed, .writable, .codeOrData, .big, .granularity])
  }
  /// A present system segment of DPL 0.
  @inlinable public static func system(_ type: SystemSegmentType) -> SegmentAttributes {
    SegmentAttributes(rawValue: UInt16(type.rawValue)).union(.present)
  }
}
