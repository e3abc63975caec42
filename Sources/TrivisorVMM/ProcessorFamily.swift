/// A processor of AMD's that exists, by its number: kernels decide by it which of its errors they must work around.
public enum ProcessorFamily: Sendable {
  /// EPYC 7001: what runs on a processor whose own errors are not known needs the care that this one does.
  case family17
  /// EPYC 9005, whose returns and branches need none.
  case family1A

  /// CPUID function 1, EAX: family, model 1 stepping 2, or model 2 stepping 1 (AMD64 APM vol. 3, E.3.2).
  var signature: UInt32 {
    switch self {
    case .family17: 0x0080_0f12
    case .family1A: 0x00b0_0f21
    }
  }

  /// MSR PATCH_LEVEL. Kernels know from which revision on an error is mended: of EPYC 9005's with this signature the one whose RDSEED
  /// can be relied on (AMD-SB-7055; Linux' `zen5_rdseed_microcode`).
  public var microcodeRevision: UInt32 {
    switch self {
    case .family17: 0
    case .family1A: 0x0b00_215a
    }
  }
}
