/// Control register 4: extensions that an operating system switches on (AMD64 APM vol. 2, 3.1.3).
public struct CR4: OptionSet, Sendable, Hashable, BitwiseCopyable {
  /// The register's value.
  public var rawValue: UInt64

  /// The bits of this value, named or not.
  @inlinable
  public init(rawValue: UInt64) { self.rawValue = rawValue }

  /// VME.
  @inlinable public static var virtual8086Extensions: CR4 { CR4(rawValue: 1 << 0) }
  /// PVI.
  @inlinable public static var protectedModeVirtualInterrupts: CR4 { CR4(rawValue: 1 << 1) }
  /// TSD: RDTSC and RDTSCP are for CPL 0.
  @inlinable public static var timeStampDisable: CR4 { CR4(rawValue: 1 << 2) }
  /// DE: I/O breakpoints; DR4 and DR5 are no aliases.
  @inlinable public static var debuggingExtensions: CR4 { CR4(rawValue: 1 << 3) }
  /// PSE: pages of 4 MiB in two-level tables.
  @inlinable public static var pageSizeExtensions: CR4 { CR4(rawValue: 1 << 4) }
  /// PAE: entries of 8 bytes.
  @inlinable public static var physicalAddressExtension: CR4 { CR4(rawValue: 1 << 5) }
  /// MCE: machine checks raise #MC instead of a shutdown.
  @inlinable public static var machineCheck: CR4 { CR4(rawValue: 1 << 6) }
  /// PGE: global pages survive loads of CR3.
  @inlinable public static var pageGlobal: CR4 { CR4(rawValue: 1 << 7) }
  /// PCE: RDPMC at any CPL.
  @inlinable public static var performanceCounters: CR4 { CR4(rawValue: 1 << 8) }
  /// OSFXSR: SSE; FXSAVE stores its registers.
  @inlinable public static var osFXSR: CR4 { CR4(rawValue: 1 << 9) }
  /// OSXMMEXCPT: SIMD errors are #XM, not #UD.
  @inlinable public static var osXMMExceptions: CR4 { CR4(rawValue: 1 << 10) }
  /// UMIP: SGDT, SIDT, SLDT, SMSW and STR are for CPL 0.
  @inlinable public static var userModeInstructionPrevention: CR4 { CR4(rawValue: 1 << 11) }
  /// LA57.
  @inlinable public static var fiveLevelPaging: CR4 { CR4(rawValue: 1 << 12) }
  /// FSGSBASE: RDFSBASE and its kin.
  @inlinable public static var fsgsbase: CR4 { CR4(rawValue: 1 << 16) }
  /// PCIDE.
  @inlinable public static var processContextIdentifiers: CR4 { CR4(rawValue: 1 << 17) }
  /// OSXSAVE: XSAVE, XGETBV, XSETBV and what XCR0 enables.
  @inlinable public static var osXSAVE: CR4 { CR4(rawValue: 1 << 18) }
  /// SMEP: CPL 0 to 2 does not execute user pages.
  @inlinable public static var supervisorExecutionPrevention: CR4 { CR4(rawValue: 1 << 20) }
  /// SMAP: nor does it read or write them, but where RFLAGS.AC is set.
  @inlinable public static var supervisorAccessPrevention: CR4 { CR4(rawValue: 1 << 21) }
  /// PKE: the keys of user pages count, as PKRU says.
  @inlinable public static var protectionKeys: CR4 { CR4(rawValue: 1 << 22) }
  /// CET.
  @inlinable public static var controlFlowEnforcement: CR4 { CR4(rawValue: 1 << 23) }
}
