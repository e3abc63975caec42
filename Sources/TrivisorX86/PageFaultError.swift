/// The error code of a page fault (AMD64 APM vol. 2, 8.4.2).
public struct PageFaultError: OptionSet, Sendable, Hashable, BitwiseCopyable {
  /// The register's value.
  public var rawValue: UInt32

  /// The bits of this value, named or not.
  @inlinable
  public init(rawValue: UInt32) { self.rawValue = rawValue }

  /// P: the rights forbid it, or a reserved bit is set; else an entry is not present.
  @inlinable public static var present: PageFaultError { PageFaultError(rawValue: 1 << 0) }
  /// R/W.
  @inlinable public static var write: PageFaultError { PageFaultError(rawValue: 1 << 1) }
  /// U/S: with the rights of CPL 3.
  @inlinable public static var user: PageFaultError { PageFaultError(rawValue: 1 << 2) }
  /// RSV: a reserved bit of an entry is set.
  @inlinable public static var reserved: PageFaultError { PageFaultError(rawValue: 1 << 3) }
  /// I/D: an instruction was fetched; only where NXE or SMEP is on.
  @inlinable public static var fetch: PageFaultError { PageFaultError(rawValue: 1 << 4) }
  /// PK: PKRU forbids it, whatever else does.
  @inlinable public static var protectionKey: PageFaultError { PageFaultError(rawValue: 1 << 5) }
  /// SS.
  @inlinable public static var shadowStack: PageFaultError { PageFaultError(rawValue: 1 << 6) }
}
