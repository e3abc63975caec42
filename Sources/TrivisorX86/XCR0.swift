/// Extended control register 0: the state components that XSAVE handles (AMD64 APM vol. 2, 11.5.2).
public struct XCR0: OptionSet, Sendable, Hashable, BitwiseCopyable {
  /// The register's value.
  public var rawValue: UInt64

  /// The bits of this value, named or not.
  @inlinable
  public init(rawValue: UInt64) { self.rawValue = rawValue }

  /// x87 and MMX; always 1.
  @inlinable public static var x87: XCR0 { XCR0(rawValue: 1 << 0) }
  /// XMM registers and MXCSR.
  @inlinable public static var sse: XCR0 { XCR0(rawValue: 1 << 1) }
  /// The upper halves of the YMM registers.
  @inlinable public static var avx: XCR0 { XCR0(rawValue: 1 << 2) }
  /// PKRU.
  @inlinable public static var protectionKeys: XCR0 { XCR0(rawValue: 1 << 9) }
}
