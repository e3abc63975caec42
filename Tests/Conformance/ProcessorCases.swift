// CPUID, model-specific and control registers (Identification.S, Processor.S).

import TrivisorVMM

extension ConformanceSuite {
  private typealias Case = ConformanceCase

  static let processorCases: [ConformanceCase] = identificationCases + registerCases + tableCases

  /// What `cpuid_features` must report for a set of features, OSXSAVE left out.
  private static func featureWords(_ features: Set<ProcessorFeature>) -> [UInt64] {
    func word(_ function: UInt32, _ index: UInt32, _ register: CPUIDRegister) -> UInt64 {
      features.reduce(0) { word, feature in
        let location = feature.location
        let isHere =
          location.function == function && location.index == index && location.register == register
        return isHere ? word | 1 << UInt64(location.bit) : word
      }
    }
    let basic = word(1, 0, .edx)
    // AMD repeats these bits of function 1 (AMD64 APM vol. 3, E.4.2).
    let repeated = basic & 0x0183_f3ff
    return [
      word(1, 0, .ecx), basic, word(7, 0, .ebx), word(0x8000_0001, 0, .ecx),
      word(0x8000_0001, 0, .edx) | repeated, word(0x8000_0007, 0, .edx), word(0xd, 1, .eax),
    ]
  }

  private static let identificationCases: [ConformanceCase] = [
    Case.both("cpuid-vendor", "AuthenticAMD, functions up to 0xd and 0x8000_0021") {
      $0.reporting([0xd, 0x6874_7541, 0x6974_6e65, 0x444d_4163, 0x8000_0021, 0x6874_7541])
    },
    Case.both("cpuid-features", "the feature flags are those of the processor model, no more and no less") {
      $0.with { $0.results = nil }.checked { observation in
        let expected = featureWords(observation.features)
        // What the model has beside its level is there where the technique can give it.
        let beside = featureWords(observation.features.union(ProcessorModel.default.companions))
        var got = observation.results
        for index in got.indices where index < expected.count { got[index] &= ~(beside[index] & ~expected[index]) }
        if !got.isEmpty { got[0] &= ~(1 << 27) }
        return expected == got ? [] : ["expected \(CaseMachine.list(expected)), got \(CaseMachine.list(got))"]
      }
    },
    Case.both("cpuid-unsupported", "functions that are not there answer with zeros") { $0.reporting([0, 0]) },
    Case.both("cpuid-hypervisor", "the hypervisor flag, and KVM's signature with one function behind it") {
      $0.reporting([1, 0x4000_0001, 0x4b4d_564b, 0x564b_4d56, 0x4d])
    },
    Case.both("cpuid-brand", "the brand string begins with the model's name") {
      $0.reporting([0x7669_7254, 0x726f_7369, 0x3638_7820])
    },
    [
      Case("cpuid-dynamic", .long, "OSXSAVE follows CR4, the APIC flag is set while the APIC is enabled")
        .reporting([0, 1, 1])
    ],
  ].flatMap(\.self)

  private static let registerCases: [ConformanceCase] = [
    [
      Case("msr-syscall", .long, "STAR, LSTAR, CSTAR and SFMASK hold what is written")
        .reporting([
          0, 0x30_0008, 0x8100_0000, 0xffff_ffff, 0x8200_0000, 0xffff_ffff, 0x4_7700, 0,
        ]),
      Case("msr-sysenter", .long, "SYSENTER_CS, _ESP and _EIP hold what is written")
        .reporting([0x10, 0, 0x8100_0000, 0xffff_ffff, 0x8200_0000, 0xffff_ffff]),
      Case("msr-unknown", .long, "#GP(0) for an MSR that does not exist, reading and writing")
        .reporting(Case.frame(13) + Case.frame(13)),
      Case("msr-noncanonical", .long, "#GP(0) for a non-canonical address in LSTAR, CSTAR and the bases of FS and GS")
        .reporting((0..<5).flatMap { _ in Case.frame(13) }),
      Case("msr-efer", .long, "SCE can be changed; a reserved bit, and LME under paging, is #GP(0)")
        .reporting([0xd01, 0xd00] + Case.frame(13) + Case.frame(13) + [0xd00]),
      Case("msr-defaults", .long, "APIC base and page attribute table after reset")
        .reporting([0xfee0_0900, 0, 0x0007_0406, 0x0007_0406]),
      Case("msr-pat-reserved", .long, "#GP(0) for a memory type that does not exist").reporting(Case.frame(13)),
      Case("msr-segment-bases", .long, "FS and GS bases, and SWAPGS with KERNEL_GS_BASE")
        .reporting([0x1111_1111, 0x2222_2222, 0x3333_3333, 0x2_1000, 0x2_1000]),
      Case("msr-time-stamp", .long, "RDTSCP gives TSC_AUX, and RDTSC afterwards no less").reporting([0x1234, 0]),
      Case("time-stamp-write", .long, "a write to the time stamp counter sets it").reporting([0x100]),
      Case("time-stamp-disabled", .longUser, "CR4.TSD makes RDTSC #GP(0) at CPL 3")
        .reporting(Case.userFrame(13)).prepared { state, _ in state.system.cr4 |= 4 },
      Case("control-registers", .long, "CR0, CR2, CR3, CR4 and CR8 read back; CR8 is the APIC's task priority")
        .reporting([
          0x8000_0031, 0x8001_0031, 0x1234_5678_9abc_def0, 0x1000, 0x6a8, 9, 0x90,
        ]),
      Case("control-registers-refused", .long, "#GP(0) for what control registers can't hold")
        .reporting((1...4).flatMap { [$0] + Case.frame(13) }),
      Case("control-registers-upper-half", .long, "#GP(0) for the upper half of CR0")
        .reporting([1] + Case.frame(13)),
      Case("task-priority-refused", .long, "#GP(0) for more than four bits in CR8").reporting([1] + Case.frame(13)),
      Case("control-registers-absent", .long, "#UD for CR1 and CR5").reporting(Case.frame(6) + Case.frame(6)),
      Case("machine-status-word", .long, "SMSW, LMSW, which can't clear PE, and CLTS")
        .reporting([0x31, 0x8000_003f, 0x8000_0037, 0x8000_0031]),
      Case("cache-control", .long, "WBINVD, INVLPG, CLFLUSH, fences, prefetch and PAUSE do no harm").reporting([1]),
    ],
    Case.both("time-stamp-counter", "RDTSC clears the upper halves and never goes back") { $0.reporting([0, 1]) },
  ].flatMap(\.self)

  private static let tableCases: [ConformanceCase] = [
    Case("descriptor-tables", .long, "SGDT and SIDT store ten bytes; STR, SLDT; LGDT loads what SGDT then stores")
      .reporting([0xbf, 0x6000, 0xff, 0xfff, 0x7000, 0x78, 0, 0x4f] + Case.frame(13, error: 0x68)),
    Case("descriptor-tables-load", .long, "LLDT and LTR check the descriptor; LTR marks it busy")
      .reporting(
        [0x68] + Case.frame(13, error: 0x78) + [0x8b] + Case.frame(13, error: 0x10) + Case.frame(11, error: 0x68)),
    Case("sensitive-readings", .longUser, "SGDT, SIDT, STR, SLDT and SMSW at CPL 3 tell the guest's own values")
      .reporting([0xbf, 0x6000, 0x7000, 0x78, 0, 0x31]),
    Case("descriptor-questions", .long, "LAR, LSL, VERR and VERW answer by ZF, without a fault")
      .reporting([0xc0_9300, 0xffff_ffff, 0xfff, 0, 0x5a5a, 1, 0]),
    Case("descriptor-questions-user", .longUser, "the same at CPL 3, which may not ask about DPL 0")
      .reporting([0, 0xc0_f300, 0xffff_ffff, 1]),
    Case("loop-prefixes", .longUser, "F2 and F3 make LOOPNE and LOOPE of each other, as on AMD's processors")
      // By prefix: LOOPNE, LOOPE, LOOP; for each the counts 1 and 2 without ZF, then with it.
      .reporting([0b1010_1000_1000 << 12 | 0b1010_0010_0010]),
  ]
}
