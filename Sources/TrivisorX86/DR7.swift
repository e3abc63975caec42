/// Debug control register (AMD64 APM vol. 2, 13.1.1.4).
public struct DR7: OptionSet, Sendable, Hashable, BitwiseCopyable {
  /// The register's value.
  public var rawValue: UInt64

  /// The bits of this value, named or not.
  @inlinable
  public init(rawValue: UInt64) { self.rawValue = rawValue }

  /// LE: ignored.
  @inlinable public static var localExact: DR7 { DR7(rawValue: 1 << 8) }
  /// GE: ignored.
  @inlinable public static var globalExact: DR7 { DR7(rawValue: 1 << 9) }
  /// Reads as 1.
  @inlinable public static var alwaysOne: DR7 { DR7(rawValue: 1 << 10) }
  /// GD: the next access to a debug register is #DB.
  @inlinable public static var generalDetect: DR7 { DR7(rawValue: 1 << 13) }

  /// L0, G0 to L3, G3.
  @inlinable public static var enables: DR7 { DR7(rawValue: 0xff) }

  /// L0 to L3 and LE: a task switch clears them.
  @inlinable public static var localEnables: DR7 { DR7(rawValue: 0x155) }

  /// What a breakpoint waits for.
  public enum Condition: UInt8, Sendable {
    /// An instruction at the address.
    case execution
    /// A store.
    case write
    /// An access to the port, where CR4.DE is 1; else undefined.
    case port
    /// A load or a store.
    case access
  }

  /// A register's value: what is always 1 is set, what does not exist is 0.
  @inlinable public init(written value: UInt64) {
    self = DR7(rawValue: value & 0xffff_2fff).union(.alwaysOne)
  }

  /// L or G of a breakpoint, 0 to 3, is set.
  @inlinable public func isEnabled(_ number: Int) -> Bool { rawValue >> UInt64(2 * number) & 3 != 0 }
  /// R/W of a breakpoint, 0 to 3.
  @inlinable public func condition(_ number: Int) -> Condition {
    Condition(rawValue: UInt8(truncatingIfNeeded: rawValue >> UInt64(16 + 4 * number) & 3)) ?? .execution
  }
  /// LEN of a breakpoint, 0 to 3, in bytes: 1, 2, 4 or 8.
  @inlinable public func length(_ number: Int) -> UInt64 {
    switch rawValue >> UInt64(18 + 4 * number) & 3 {
    case 0: 1
    case 1: 2
    case 2: 8
    default: 4
    }
  }
}
