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
