// What CPUID's bits promise, and what is there without one (Promises.S).

import TrivisorVMM

extension ConformanceSuite {
  private typealias Case = ConformanceCase

  private static func negative(_ value: Int64) -> UInt64 { UInt64(bitPattern: value) }

  static let promiseCases: [ConformanceCase] = [
    [
      Case("promises-control", .long, "CR4's bits can be set for each feature that is announced").reporting([0]),
      Case("promises-registers", .long, "the registers of each feature that is announced are there").reporting([1]),
      Case("promises-machine-check", .long, "machine checks: CR4.MCE, banks without errors, #GP(0) for one made up")
        .reporting([0x40, 0, 1, 0] + Case.frame(13)),
      Case("promises-counters", .long, "the K7's performance counters exist").reporting([0]),
      Case("promises-family", .long, "registers that all of AMD's processors have exist").reporting([1]),
      Case("promises-store-bypass", .long, "no register that seems to stop loads from passing stores, and doesn't")
        .reporting(Case.frame(13) + Case.frame(13)),
      Case("promises-hypercalls-32", .protected, "hypercalls of 32-bit code have 32 bits of result")
        .reporting([negative(-1000) & 0xffff_ffff, negative(-1000) & 0xffff_ffff]),
    ],
    [
      Case("promises-adjust", .long, "TSC_ADJUST moves the time stamp counter, and follows it").reporting([3]),
      Case("promises-invpcid", .long, "each kind of INVPCID drops a page's translation").reporting([1, 2, 3, 4, 5]),
      Case("promises-invpcid-refused", .long, "#GP(0) for what INVPCID can't be asked")
        .ifAnnounced((0..<4).flatMap { _ in Case.frame(13) }),
      Case("promises-pcid", .long, "CR4.PCIDE and the contexts of CR3").ifAnnounced(Case.frame(13) + [5, 5]),
      Case("promises-rdpid", .long, "RDPID gives TSC_AUX").reporting([0x1234]),
      Case("promises-null-base", .long, "a null selector clears the base, where CPUID says so").reporting([0, 0]),
      Case("promises-send-interrupts", .long, "KVM_HC_SEND_IPI reaches the processors of its bitmap")
        .reporting(Case.frame(0x51, flags: 0x200) + [1, 0, negative(-22)]),
    ],
    Case.both(
      "promises-hypercalls", "VMMCALL and VMCALL answer as KVM does, and for CPL 0 only",
      results: {
        $0
          ? [negative(-1), negative(-1), negative(-1)] + Case.userFrame(13)
          : [negative(-1000), 0, negative(-95), negative(-1000)]
      }
    ) { $0 },
    [
      Case("promises-counters-read", .long, "RDPMC agrees with the counters").reporting([0]),
      Case(
        "promises-counters-read-user", .longUser, "RDPMC with CR4.PCE at CPL 3", guest: "promises_counters_read"
      ).reporting([0]).prepared { state, _ in state.system.cr4 |= 1 << 8 },
    ],
  ].flatMap(\.self)
}

extension ConformanceCase {
  /// It reports nothing at all where its feature is not announced.
  func ifAnnounced(_ results: [UInt64]) -> Self {
    with { $0.results = nil }.checked { observation in
      observation.results.isEmpty || observation.results == results
        ? [] : ["\(observation.results) instead of \(results)"]
    }
  }
}
