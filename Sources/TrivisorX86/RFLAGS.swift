/// The flags register (AMD64 APM vol. 1, 3.1.4; vol. 2, 3.1.6).
public struct RFLAGS: OptionSet, Sendable, Hashable, BitwiseCopyable {
  /// The register's value.
  public var rawValue: UInt64

  /// The bits of this value, named or not.
  @inlinable
  public init(rawValue: UInt64) { self.rawValue = rawValue }

  /// CF.
  @inlinable public static var carry: RFLAGS { RFLAGS(rawValue: 1 << 0) }
  /// Reads as 1.
  @inlinable public static var alwaysOne: RFLAGS { RFLAGS(rawValue: 1 << 1) }
  /// PF.
  @inlinable public static var parity: RFLAGS { RFLAGS(rawValue: 1 << 2) }
  /// AF.
  @inlinable public static var auxiliary: RFLAGS { RFLAGS(rawValue: 1 << 4) }
  /// ZF.
  @inlinable public static var zero: RFLAGS { RFLAGS(rawValue: 1 << 6) }
  /// SF.
  @inlinable public static var sign: RFLAGS { RFLAGS(rawValue: 1 << 7) }
  /// TF: #DB behind each instruction.
  @inlinable public static var trap: RFLAGS { RFLAGS(rawValue: 1 << 8) }
  /// IF: maskable interrupts are taken.
  @inlinable public static var interrupt: RFLAGS { RFLAGS(rawValue: 1 << 9) }
  /// DF: string instructions go downwards.
  @inlinable public static var direction: RFLAGS { RFLAGS(rawValue: 1 << 10) }
  /// OF.
  @inlinable public static var overflow: RFLAGS { RFLAGS(rawValue: 1 << 11) }
  /// NT: IRET returns to another task.
  @inlinable public static var nestedTask: RFLAGS { RFLAGS(rawValue: 1 << 14) }
  /// RF: instruction breakpoints are off for one instruction.
  @inlinable public static var resume: RFLAGS { RFLAGS(rawValue: 1 << 16) }
  /// VM: virtual-8086 mode.
  @inlinable public static var virtual8086: RFLAGS { RFLAGS(rawValue: 1 << 17) }
  /// AC: alignment checks at CPL 3; at CPL 0, SMAP is overridden.
  @inlinable public static var alignmentCheck: RFLAGS { RFLAGS(rawValue: 1 << 18) }
  /// VIF.
  @inlinable public static var virtualInterrupt: RFLAGS { RFLAGS(rawValue: 1 << 19) }
  /// VIP.
  @inlinable public static var virtualInterruptPending: RFLAGS { RFLAGS(rawValue: 1 << 20) }
  /// ID: can be changed where CPUID exists.
  @inlinable public static var identification: RFLAGS { RFLAGS(rawValue: 1 << 21) }

  /// IOPL: the least privileged CPL that may use ports and IF.
  @inlinable public static var ioPrivilegeLevel: RFLAGS { RFLAGS(rawValue: 3 << 12) }
  /// The six that arithmetic sets.
  @inlinable public static var arithmetic: RFLAGS { [.carry, .parity, .auxiliary, .zero, .sign, .overflow] }
  /// CF, PF, AF, ZF and SF: what LAHF and SAHF move.
  @inlinable public static var lowByte: RFLAGS { [.carry, .parity, .auxiliary, .zero, .sign] }
  /// The bits that exist, the one that is always set left out.
  @inlinable public static var defined: RFLAGS {
    [
      .user, .interrupt, .ioPrivilegeLevel, .resume, .virtual8086, .virtualInterrupt, .virtualInterruptPending,
    ]
  }
  /// FLAGS: what instructions with operands of 16 bits work on.
  @inlinable public static var low16: RFLAGS { RFLAGS(rawValue: 0xffff) }
  /// What a program may change at CPL 3 with IOPL 0.
  @inlinable public static var user: RFLAGS {
    [.arithmetic, .trap, .direction, .nestedTask, .alignmentCheck, .identification]
  }

  /// What SYSRET takes from R11 (AMD64 APM vol. 3, "SYSRET").
  @inlinable public static var returnable: RFLAGS {
    [.user, .interrupt, .ioPrivilegeLevel, .virtualInterrupt, .virtualInterruptPending]
  }

  /// IOPL as a number, 0 to 3.
  @inlinable public var ioPrivilege: UInt8 { UInt8(truncatingIfNeeded: rawValue >> 12 & 3) }
}
