/// Extended feature enable register, MSR c000_0080 (AMD64 APM vol. 2, 3.1.7).
public struct EFER: OptionSet, Sendable, Hashable, BitwiseCopyable {
  /// The register's value.
  public var rawValue: UInt64

  /// The bits of this value, named or not.
  @inlinable
  public init(rawValue: UInt64) { self.rawValue = rawValue }

  /// SCE: SYSCALL and SYSRET.
  @inlinable public static var systemCallExtensions: EFER { EFER(rawValue: 1 << 0) }
  /// LME: paging will be long mode's.
  @inlinable public static var longModeEnable: EFER { EFER(rawValue: 1 << 8) }
  /// LMA: it is.
  @inlinable public static var longModeActive: EFER { EFER(rawValue: 1 << 10) }
  /// NXE: bit 63 of page-table entries forbids execution.
  @inlinable public static var noExecute: EFER { EFER(rawValue: 1 << 11) }
  /// SVME.
  @inlinable public static var secureVirtualMachine: EFER { EFER(rawValue: 1 << 12) }
  /// LMSLE.
  @inlinable public static var longModeSegmentLimit: EFER { EFER(rawValue: 1 << 13) }
  /// FFXSR.
  @inlinable public static var fastFXSAVE: EFER { EFER(rawValue: 1 << 14) }
  /// AIBRSE: branches of CPL 3 lead none of CPL 0 astray.
  @inlinable public static var automaticIBRS: EFER { EFER(rawValue: 1 << 21) }
  /// TCE.
  @inlinable public static var translationCacheExtension: EFER { EFER(rawValue: 1 << 15) }
}
