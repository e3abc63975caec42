import TrivisorCSharedWords
import TrivisorX86

/// CPUID of a domain's processors, for a guest that asks the hypervisor for it instead of executing it: without what a domain is
/// not given.
///
/// Natively run code that executes CPUID itself sees the host's. A kernel that knows what it runs on asks here, and each bit that it
/// sees is a promise: its instructions run, its control bits can be set, its model-specific registers are there.
public struct DomainIdentification: Sendable {
  /// EAX, EBX, ECX, EDX.
  public typealias Words = (UInt32, UInt32, UInt32, UInt32)

  private let words: @Sendable (UInt32, UInt32) -> Words
  /// Whether the vendor is Intel ("GenuineIntel"), whose model-specific registers are other ones.
  let isIntel: Bool
  /// Which of CR4's bits belong to features that a domain is told of.
  let control4: UInt64

  /// - Parameter words: what the processor itself says of a leaf and its index.
  public init(_ words: @escaping @Sendable (UInt32, UInt32) -> Words) {
    self.words = words
    isIntel = words(0, 0).1 == 0x756e_6547
    let (basic, extended) = (Self.shown(1, 0, words(1, 0)), Self.shown(7, 0, words(7, 0)))
    var bits: CR4 = []
    if basic.3 & 1 << 4 != 0 { bits.insert(.timeStampDisable) }
    if basic.3 & 1 << 2 != 0 { bits.insert(.debuggingExtensions) }
    if basic.2 & 1 << 26 != 0 { bits.insert(.osXSAVE) }
    if extended.1 & 1 << 0 != 0 { bits.insert(.fsgsbase) }
    control4 = bits.rawValue
  }

  /// The host's.
  public static let host = DomainIdentification { leaf, subleaf in
    var words: Words = (0, 0, 0, 0)
    withUnsafeMutableBytes(of: &words) { bytes in
      if let start = bytes.baseAddress {
        host_identification(leaf, subleaf, start.assumingMemoryBound(to: UInt32.self))
      }
    }
    return words
  }

  /// What a domain is told.
  func read(_ leaf: UInt32, _ subleaf: UInt32) -> Words { Self.shown(leaf, subleaf, words(leaf, subleaf)) }

  /// Of a host's words, those that a domain is told.
  static func shown(_ leaf: UInt32, _ subleaf: UInt32, _ words: Words) -> Words {
    var words = words
    switch (leaf, subleaf) {
    case (1, _):
      // DTES64, MONITOR, DS-CPL, VMX, SMX, EIST, TM2, PDCM, PCID, DCA, x2APIC, the TSC-deadline timer.
      words.2 &= ~mask(2, 3, 4, 5, 6, 7, 8, 15, 17, 18, 21, 24)
      // There is a hypervisor.
      words.2 |= mask(31)
      // VME, PSE, MCE, MTRR, PGE, MCA, PSE-36, DS, ACPI, TM, PBE.
      words.3 &= ~mask(1, 3, 7, 12, 13, 14, 17, 21, 22, 29, 31)
    case (5, _), (0xa, _):
      // MONITOR and MWAIT; performance counters.
      words = (0, 0, 0, 0)
    case (7, 0):
      // TSC_ADJUST, SGX, SMEP, INVPCID, monitoring and allocation of resources, MPX, SMAP, processor trace.
      words.1 &= ~mask(1, 2, 7, 10, 12, 14, 15, 20, 25)
      // UMIP, protection keys and whether they are on, shadow stacks, 57-bit addresses, key locker, detection of bus locks,
      // ENQCMD, supervisor keys.
      words.2 &= ~mask(2, 3, 4, 7, 16, 23, 24, 29, 31)
      // User interrupts, PCONFIG, branch records, branch tracking, AMX, and the registers that control speculation.
      words.3 &= ~mask(5, 18, 19, 20, 22, 24, 25, 26, 27, 28, 29, 30, 31)
    case (0xd, 1):
      // XSAVES, which is privileged.
      words.0 &= ~mask(3)
    case (0x8000_0001, _):
      // SVM, the extended APIC space, IBS, SKINIT, the watchdog, LWP, node numbers, counters, data breakpoints, MONITORX.
      words.2 &= ~mask(2, 3, 10, 12, 13, 15, 19, 23, 24, 26, 27, 28, 29)
      // PSE, MCE, MTRR, PGE, MCA, PSE-36, pages of 1 GiB.
      words.3 &= ~mask(3, 7, 12, 13, 14, 17, 26)
    case (0x8000_0008, _):
      // The registers that control speculation.
      words.1 &= ~mask(12, 14, 15, 16, 17, 18, 19, 24, 25, 26, 28)
    default: break
    }
    return words
  }

  private static func mask(_ bits: UInt32...) -> UInt32 { bits.reduce(0) { $0 | 1 << $1 } }
}
