/// A set of RFLAGS bits at their places in the register (AMD64 APM vol. 1, 3.1.4; vol. 2, 3.1.6).
public struct Flags: OptionSet, Sendable, Hashable, BitwiseCopyable {
  /// As in the low half of RFLAGS.
  public let rawValue: UInt32

  /// The flags at these bits of RFLAGS.
  public init(rawValue: UInt32) {
    self.rawValue = rawValue
  }

  /// CF.
  public static let carry = Flags(rawValue: 1 << 0)
  /// PF.
  public static let parity = Flags(rawValue: 1 << 2)
  /// AF.
  public static let auxiliary = Flags(rawValue: 1 << 4)
  /// ZF.
  public static let zero = Flags(rawValue: 1 << 6)
  /// SF.
  public static let sign = Flags(rawValue: 1 << 7)
  /// TF.
  public static let trap = Flags(rawValue: 1 << 8)
  /// IF.
  public static let interrupt = Flags(rawValue: 1 << 9)
  /// DF.
  public static let direction = Flags(rawValue: 1 << 10)
  /// OF.
  public static let overflow = Flags(rawValue: 1 << 11)
  /// The low bit of IOPL.
  public static let ioPrivilege = Flags(rawValue: 1 << 12)
  /// NT.
  public static let nestedTask = Flags(rawValue: 1 << 14)
  /// RF.
  public static let resume = Flags(rawValue: 1 << 16)
  /// VM.
  public static let virtual8086 = Flags(rawValue: 1 << 17)
  /// AC.
  public static let alignment = Flags(rawValue: 1 << 18)
  /// VIF.
  public static let virtualInterrupt = Flags(rawValue: 1 << 19)
  /// VIP.
  public static let virtualInterruptPending = Flags(rawValue: 1 << 20)
  /// ID.
  public static let identification = Flags(rawValue: 1 << 21)

  /// The six that arithmetic sets.
  public static let arithmetic: Flags = [.carry, .parity, .auxiliary, .zero, .sign, .overflow]
}

/// What an instruction does with RFLAGS. The four sets of changed flags are disjoint.
public struct FlagUse: Sendable, Hashable, BitwiseCopyable {
  /// The result depends on them.
  public internal(set) var tested: Flags = []
  /// Set according to the result.
  public internal(set) var modified: Flags = []
  /// Set to 0.
  public internal(set) var cleared: Flags = []
  /// Set to 1.
  public internal(set) var set: Flags = []
  /// Left with a value that the manual doesn't define.
  public internal(set) var undefined: Flags = []
  /// Nothing of this happens if a count is zero (shifts by CL or by an immediate of 0, repeated comparisons): then
  /// every flag keeps its value.
  public internal(set) var isConditional = false

  /// Whatever may not keep its value.
  public var changed: Flags { modified.union(cleared).union(set).union(undefined) }
}
