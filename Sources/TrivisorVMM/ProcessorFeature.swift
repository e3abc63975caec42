/// A CPUID feature flag that a processor model may announce (AMD64 APM vol. 3, appendix E; Intel SDM vol. 2, CPUID).
///
/// The raw value is the name that Linux's /proc/cpuinfo uses.
public enum ProcessorFeature: String, Sendable, CaseIterable, Hashable, Comparable {
  // Function 1, EDX.
  case fpu, vme, de, pse, tsc, msr, pae, mce, cx8, apic, sep, mtrr, pge, mca, cmov, pat, pse36, clflush, mmx, fxsr, sse
  case sse2, ht
  // Function 1, ECX.
  case pni, pclmulqdq, ssse3, fma, cx16, pcid, sse4_1, sse4_2, x2apic, movbe, popcnt, tsc_deadline_timer, aes, xsave,
    avx
  case f16c, rdrand, hypervisor
  // Function 7, EBX and ECX.
  case fsgsbase, tsc_adjust, bmi1, avx2, smep, bmi2, erms, invpcid, adx, smap, clflushopt, umip, pku, rdpid
  // Function 0xd index 1, EAX.
  case xsaveopt
  // Function 0x8000_0001, ECX and EDX.
  case lahf_lm, abm
  case prefetchw = "3dnowprefetch"
  case topoext, syscall, nx, mmxext, pdpe1gb, rdtscp, lm
  // Function 0x8000_0007, EDX.
  case nonstop_tsc
  // Function 0x8000_0008, EBX.
  case xsaveerptr
  // Function 0x8000_0021, EAX: writes of DR6 and DR7 break no speculation, LFENCE waits, null selectors clear bases, branches of CPL 3 don't
  // lead those of CPL 0 astray, nor do its returns.
  case no_nested_data_bp, lfence_rdtsc, null_sel_clr_base, autoibrs, srso_user_kernel_no

  /// Where CPUID shows it.
  public struct Location: Sendable, Equatable {
    /// EAX and ECX of the query.
    public let function: UInt32, index: UInt32
    /// Which of the four results.
    public let register: CPUIDRegister
    /// 0–31.
    public let bit: Int
  }

  /// Where CPUID shows it.
  public var location: Location {
    let (function, index, register, bit): (UInt32, UInt32, CPUIDRegister, Int) =
      switch self {
      case .fpu: (1, 0, .edx, 0)
      case .vme: (1, 0, .edx, 1)
      case .de: (1, 0, .edx, 2)
      case .pse: (1, 0, .edx, 3)
      case .tsc: (1, 0, .edx, 4)
      case .msr: (1, 0, .edx, 5)
      case .pae: (1, 0, .edx, 6)
      case .mce: (1, 0, .edx, 7)
      case .cx8: (1, 0, .edx, 8)
      case .apic: (1, 0, .edx, 9)
      case .sep: (1, 0, .edx, 11)
      case .mtrr: (1, 0, .edx, 12)
      case .pge: (1, 0, .edx, 13)
      case .mca: (1, 0, .edx, 14)
      case .cmov: (1, 0, .edx, 15)
      case .pat: (1, 0, .edx, 16)
      case .pse36: (1, 0, .edx, 17)
      case .clflush: (1, 0, .edx, 19)
      case .mmx: (1, 0, .edx, 23)
      case .fxsr: (1, 0, .edx, 24)
      case .sse: (1, 0, .edx, 25)
      case .sse2: (1, 0, .edx, 26)
      case .ht: (1, 0, .edx, 28)
      case .pni: (1, 0, .ecx, 0)
      case .pclmulqdq: (1, 0, .ecx, 1)
      case .ssse3: (1, 0, .ecx, 9)
      case .fma: (1, 0, .ecx, 12)
      case .cx16: (1, 0, .ecx, 13)
      case .pcid: (1, 0, .ecx, 17)
      case .sse4_1: (1, 0, .ecx, 19)
      case .sse4_2: (1, 0, .ecx, 20)
      case .x2apic: (1, 0, .ecx, 21)
      case .movbe: (1, 0, .ecx, 22)
      case .popcnt: (1, 0, .ecx, 23)
      case .tsc_deadline_timer: (1, 0, .ecx, 24)
      case .aes: (1, 0, .ecx, 25)
      case .xsave: (1, 0, .ecx, 26)
      case .avx: (1, 0, .ecx, 28)
      case .f16c: (1, 0, .ecx, 29)
      case .rdrand: (1, 0, .ecx, 30)
      case .hypervisor: (1, 0, .ecx, 31)
      case .fsgsbase: (7, 0, .ebx, 0)
      case .tsc_adjust: (7, 0, .ebx, 1)
      case .bmi1: (7, 0, .ebx, 3)
      case .avx2: (7, 0, .ebx, 5)
      case .smep: (7, 0, .ebx, 7)
      case .bmi2: (7, 0, .ebx, 8)
      case .erms: (7, 0, .ebx, 9)
      case .invpcid: (7, 0, .ebx, 10)
      case .adx: (7, 0, .ebx, 19)
      case .smap: (7, 0, .ebx, 20)
      case .clflushopt: (7, 0, .ebx, 23)
      case .umip: (7, 0, .ecx, 2)
      case .pku: (7, 0, .ecx, 3)
      case .rdpid: (7, 0, .ecx, 22)
      case .xsaveopt: (0xd, 1, .eax, 0)
      case .lahf_lm: (0x8000_0001, 0, .ecx, 0)
      case .abm: (0x8000_0001, 0, .ecx, 5)
      case .prefetchw: (0x8000_0001, 0, .ecx, 8)
      case .topoext: (0x8000_0001, 0, .ecx, 22)
      case .syscall: (0x8000_0001, 0, .edx, 11)
      case .nx: (0x8000_0001, 0, .edx, 20)
      case .mmxext: (0x8000_0001, 0, .edx, 22)
      case .pdpe1gb: (0x8000_0001, 0, .edx, 26)
      case .rdtscp: (0x8000_0001, 0, .edx, 27)
      case .lm: (0x8000_0001, 0, .edx, 29)
      case .nonstop_tsc: (0x8000_0007, 0, .edx, 8)
      case .xsaveerptr: (0x8000_0008, 0, .ebx, 2)
      case .no_nested_data_bp: (0x8000_0021, 0, .eax, 0)
      case .lfence_rdtsc: (0x8000_0021, 0, .eax, 2)
      case .null_sel_clr_base: (0x8000_0021, 0, .eax, 6)
      case .autoibrs: (0x8000_0021, 0, .eax, 8)
      case .srso_user_kernel_no: (0x8000_0021, 0, .eax, 30)
      }
    return Location(function: function, index: index, register: register, bit: bit)
  }

  /// In the order of declaration.
  public static func < (lhs: Self, rhs: Self) -> Bool {
    (lhs.location.function, lhs.location.register.rawValue, lhs.location.bit)
      < (rhs.location.function, rhs.location.register.rawValue, rhs.location.bit)
  }
}

/// One of the four registers that CPUID fills.
public enum CPUIDRegister: Int, Sendable {
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  case eax, ebx, ecx, edx
}
