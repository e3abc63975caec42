// x87, SSE and AVX (Floating.S).

import TrivisorVMM

extension ConformanceSuite {
  private typealias Case = ConformanceCase

  /// CR4.OSXSAVE, and x87, SSE and AVX in XCR0.
  private static let withAVX: @Sendable (inout MachineState, TableWriter) throws -> Void = { state, _ in
    state.system.cr4 |= 1 << 18
    state.extended.xcr0 = 7
  }

  private static func withControl(
    cr0: UInt64 = 0, clearingCR4: UInt64 = 0
  ) -> @Sendable (inout MachineState, TableWriter) throws -> Void {
    { state, _ in
      state.system.cr0 |= cr0
      state.system.cr4 &= ~clearingCR4
    }
  }

  private static let taskSwitched: UInt64 = 8, emulation: UInt64 = 4, monitorCoprocessor: UInt64 = 2
  private static let pattern: UInt64 = 0x1234_5678_1234_5678

  static let floatingCases: [ConformanceCase] =
    registerStateCases + saveCases + floatingExceptionCases + floatingInterruptCases

  private static let floatingInterruptCases: [ConformanceCase] = [
    Case(
      "floating-interrupt", .real, "with CR0.NE = 0 an x87 error is interrupt line 13, until port 0xf0 is written to"
    )
    .reporting(Case.frame16(0x55, flags: 0x200) + Case.frame16(0x55, flags: 0x200) + [0])
  ]

  /// At CPL 0 these need a technique that runs vector instructions there.
  private static func vector(
    _ name: String, _ summary: String, results: (Bool) -> [UInt64], _ change: (ConformanceCase) -> ConformanceCase
  ) -> [ConformanceCase] {
    Case.both(name, summary, results: results, change)
  }

  private static let registerStateCases: [ConformanceCase] = [
    vector("floating-initial", "FNINIT's control word and MXCSR after reset", results: { _ in [0x37f, 0x1f80] }) { $0 },
    vector(
      "floating-arithmetic", "7 / 3 in double, pi in extended precision",
      results: { _ in [0x4002_aaaa_aaaa_aaab, 0xc90f_daa2_2168_c235, 0x4000] }
    ) { $0 },
    vector(
      "floating-control", "rounding follows FCW and MXCSR", results: { _ in [0xf7f, 3, 3, 0x7fa0] }
    ) { $0 },
    vector(
      "floating-control-refused", "#GP(0) for a reserved bit of MXCSR", results: { Case.frame(from: $0, 13) }
    ) { $0 },
    [
      Case(
        "floating-control-mask-user", .longUser, "MXCSR_MASK says which bits LDMXCSR takes",
        guest: "floating_control_mask"
      )
      .with { $0.results = nil }
      .checked { seen in
        let mask = seen.results.first ?? 0
        let expected = mask & 0x2_0000 != 0 ? [mask, 0x2_1f80] : [mask] + Case.userFrame(13) + [0x1f80]
        return seen.results == expected ? [] : ["got \(CaseMachine.list(seen.results))"]
      }
    ],
    vector(
      "floating-exits", "x87 and SSE registers and control words live through exits",
      results: { _ in [1, 0x3f80, 3, 1] }
    ) { $0 },
    vector("vector-exits", "the AVX registers live through exits", results: { _ in [1] }) { $0.prepared(withAVX) },
    vector(
      "vector-upper", "legacy SSE keeps the upper halves, VEX clears them, VZEROUPPER clears all",
      results: { _ in [0, pattern, 0, pattern, 0] }
    ) { $0.prepared(withAVX) },
  ].flatMap(\.self)

  private static let saveCases: [ConformanceCase] = [
    vector(
      "xsave-restore", "XSAVE and XRSTOR, header and components",
      results: { _ in [6, 0x1234_5678, 0x1234_5678, pattern, pattern, pattern, 0] }
    ) { $0.prepared(withAVX) },
    vector(
      "xsave-parts", "XSAVE and XRSTOR touch only the parts of the area that are asked for",
      results: { _ in [2, 0x1234_5678] }
    ) {
      $0.prepared { state, tables in
        try withAVX(&state, tables)
        try tables.write(0, at: Layout.level1 + 8 * (Layout.data >> 12 + 0x11))
      }
    },
    vector(
      "xsave-refused", "#GP(0) for a header with unknown components and for an unaligned area",
      results: { Case.frame(from: $0, 13) + Case.frame(from: $0, 13) }
    ) { $0.prepared(withAVX) },
    vector(
      "xgetbv", "XCR0 as the system set it; no other register", results: { [7, 0] + Case.frame(from: $0, 13) }
    ) { $0.prepared(withAVX) },
    vector(
      "xsave-disabled", "#UD for XGETBV and AVX while CR4.OSXSAVE = 0",
      results: { Case.frame(from: $0, 6) + Case.frame(from: $0, 6) }
    ) { $0 },
    vector("fxsave-restore", "FXSAVE and FXRSTOR", results: { _ in [0x1234_5678, 3, 0x80] }) { $0 },
    [
      Case("xsetbv", .long, "XSETBV sets what is consistent and refuses the rest with #GP(0)")
        .reporting([3, 7] + Case.frame(13) + Case.frame(13)).prepared(withAVX),
      Case("xsetbv-user", .longUser, "#GP(0) for XSETBV at CPL 3").reporting(Case.userFrame(13)).prepared(withAVX),
    ],
  ].flatMap(\.self)

  private static let floatingExceptionCases: [ConformanceCase] = [
    vector(
      "exception-floating", "#MF at the waiting instruction behind the one that failed",
      results: { Case.frame(from: $0, 16) }
    ) { $0 },
    vector(
      "exception-vector-floating", "#XM: the destination stays, MXCSR says what it was",
      results: { Case.frame(from: $0, 19) + [0x3f80_0000, 4] }
    ) { $0 },
    vector(
      "exception-vector-alignment", "#GP(0) for an unaligned MOVAPS",
      results: { Case.frame(from: $0, 13) + Case.frame(from: $0, 13) }
    ) { $0 },
    vector(
      "exception-device-not-available", "#NM for x87 and SSE while CR0.TS = 1",
      results: { Case.frame(from: $0, 7) + Case.frame(from: $0, 7) }
    ) { $0.prepared(withControl(cr0: taskSwitched)) },
    [GuestMode.long, .longUser].flatMap { mode -> [ConformanceCase] in
      let isUser = mode == .longUser
      let suffix = isUser ? "-user" : ""
      return [
        Case(
          "exception-emulation" + suffix, mode, "#NM for x87 and #UD for SSE while CR0.EM = 1",
          guest: "exception_device_not_available"
        )
        .reporting(Case.frame(from: isUser, 7) + Case.frame(from: isUser, 6))
        .prepared(withControl(cr0: emulation)),
        Case(
          "exception-sse-disabled" + suffix, mode, "#UD for SSE while CR4.OSFXSR = 0, x87 goes on",
          guest: "exception_device_not_available"
        )
        .reporting(Case.frame(from: isUser, 6)).prepared(withControl(clearingCR4: 1 << 9)),
        Case(
          "exception-wait" + suffix, mode, "#NM for FWAIT while CR0.TS and CR0.MP are 1", guest: "exception_wait"
        )
        .reporting(Case.frame(from: isUser, 7)).prepared(withControl(cr0: taskSwitched | monitorCoprocessor)),
        Case(
          "exception-wait-without-mp" + suffix, mode, "no exception for FWAIT while CR0.MP = 0",
          guest: "exception_wait"
        )
        .prepared(withControl(cr0: taskSwitched)),
        Case(
          "exception-vector-unmasked-unannounced" + suffix, mode, "#UD in place of #XM while CR4.OSXMMEXCPT = 0",
          guest: "exception_vector_floating"
        )
        .reporting(Case.frame(from: isUser, 6) + [0x3f80_0000, 4]).prepared(withControl(clearingCR4: 1 << 10)),
      ]
    },
    [
      Case("exception-alignment", .longUser, "#AC(0) at CPL 3 with CR0.AM and RFLAGS.AC")
        .reporting(Case.userFrame(17, flags: 0x4_0000)).prepared(withControl(cr0: 1 << 18)),
      Case(
        "exception-alignment-kernel", .long, "no #AC at CPL 0, whatever CR0.AM and RFLAGS.AC say",
        guest: "exception_alignment"
      )
      .prepared(withControl(cr0: 1 << 18)),
    ],
  ].flatMap(\.self)
}
