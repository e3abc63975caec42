/// Debug status register (AMD64 APM vol. 2, 13.1.1.3).
public struct DR6: OptionSet, Sendable, Hashable, BitwiseCopyable {
  /// The register's value.
  public var rawValue: UInt64

  /// The bits of this value, named or not.
  @inlinable
  public init(rawValue: UInt64) { self.rawValue = rawValue }

  /// B0: the condition of DR0 was met.
  @inlinable public static var breakpoint0: DR6 { DR6(rawValue: 1 << 0) }
  /// B1.
  @inlinable public static var breakpoint1: DR6 { DR6(rawValue: 1 << 1) }
  /// B2.
  @inlinable public static var breakpoint2: DR6 { DR6(rawValue: 1 << 2) }
  /// B3.
  @inlinable public static var breakpoint3: DR6 { DR6(rawValue: 1 << 3) }
  /// BD: a debug register was to be accessed while DR7.GD was 1.
  @inlinable public static var registerAccess: DR6 { DR6(rawValue: 1 << 13) }
  /// BS: TF.
  @inlinable public static var singleStep: DR6 { DR6(rawValue: 1 << 14) }
  /// BT: the T bit of a TSS.
  @inlinable public static var taskSwitch: DR6 { DR6(rawValue: 1 << 15) }

  /// What reads as 1 always: the value after RESET.
  @inlinable public static var alwaysOne: DR6 { DR6(rawValue: 0xffff_0ff0) }
  /// B0 to B3.
  @inlinable public static var breakpoints: DR6 { DR6(rawValue: 15) }
  /// What a write can change.
  @inlinable public static var writable: DR6 { [.breakpoints, .registerAccess, .singleStep, .taskSwitch] }

  /// A register's value: what is always 1 is set, what does not exist is 0.
  @inlinable public init(written value: UInt64) {
    self = DR6(rawValue: value).intersection(.writable).union(.alwaysOne)
  }
}
