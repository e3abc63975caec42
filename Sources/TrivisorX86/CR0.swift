/// Control register 0: modes and the handling of the coprocessor (AMD64 APM vol. 2, 3.1.1).
public struct CR0: OptionSet, Sendable, Hashable, BitwiseCopyable {
  /// The register's value.
  public var rawValue: UInt64

  /// The bits of this value, named or not.
  @inlinable
  public init(rawValue: UInt64) { self.rawValue = rawValue }

  /// PE: segments have descriptors.
  @inlinable public static var protectedMode: CR0 { CR0(rawValue: 1 << 0) }
  /// MP: with TS, WAIT raises #NM, too.
  @inlinable public static var monitorCoprocessor: CR0 { CR0(rawValue: 1 << 1) }
  /// EM: there is no x87; its instructions raise #NM.
  @inlinable public static var emulation: CR0 { CR0(rawValue: 1 << 2) }
  /// TS: the next x87, MMX or SSE instruction raises #NM.
  @inlinable public static var taskSwitched: CR0 { CR0(rawValue: 1 << 3) }
  /// ET: always 1.
  @inlinable public static var extensionType: CR0 { CR0(rawValue: 1 << 4) }
  /// NE: x87 errors are #MF, not an external interrupt.
  @inlinable public static var numericError: CR0 { CR0(rawValue: 1 << 5) }
  /// WP: read-only pages are so for CPL 0 to 2, too.
  @inlinable public static var writeProtect: CR0 { CR0(rawValue: 1 << 16) }
  /// AM: RFLAGS.AC may ask for alignment checks at CPL 3.
  @inlinable public static var alignmentMask: CR0 { CR0(rawValue: 1 << 18) }
  /// NW: without effect; 1 without CD is refused.
  @inlinable public static var notWriteThrough: CR0 { CR0(rawValue: 1 << 29) }
  /// CD.
  @inlinable public static var cacheDisable: CR0 { CR0(rawValue: 1 << 30) }
  /// PG.
  @inlinable public static var paging: CR0 { CR0(rawValue: 1 << 31) }

  /// The bits that exist; writes of the others below bit 32 are ignored.
  @inlinable public static var defined: CR0 {
    [
      .protectedMode, .monitorCoprocessor, .emulation, .taskSwitched, .extensionType, .numericError, .writeProtect,
      .alignmentMask, .notWriteThrough, .cacheDisable, .paging,
    ]
  }
  /// Those that LMSW can write; PE can only be set by it.
  @inlinable public static var statusWord: CR0 { [.protectedMode, .monitorCoprocessor, .emulation, .taskSwitched] }
  /// After RESET: caching off.
  @inlinable public static var reset: CR0 { [.cacheDisable, .notWriteThrough, .extensionType] }
}
