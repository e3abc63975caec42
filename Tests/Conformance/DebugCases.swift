// Debug registers (Debug.S).

import TrivisorVMM

extension ConformanceSuite {
  private typealias Case = ConformanceCase

  static let debugCases: [ConformanceCase] = [
    Case("debug-instruction", .long, "an instruction breakpoint is a fault; DR6.B0")
      .reporting(Case.frame(1) + [1, 0x402]),
    Case(
      "debug-instruction-compatibility", .compatibility, "an instruction breakpoint is a fault; in compatibility mode"
    )
    .reporting(Case.frame(1, cs: 0x18) + [1, 0x402]),
    Case("debug-resume", .long, "RFLAGS.RF lets the instruction run once").reporting([2, 1, 3])
      .accompanied(by: "debug_resume_handler")
      .prepared { _, tables in
        try tables.writeLongModeGate(1, offset: Layout.companion)
      },
    Case("debug-write", .long, "a watchpoint on writes is a trap; loads and neighbours don't count")
      .reporting(Case.frame(1) + [2]),
    Case("debug-read", .long, "a watchpoint on reads and writes").reporting(Case.frame(1) + [4]),
    Case("debug-port", .long, "a watchpoint on a port, with CR4.DE").reporting(Case.frame(1) + [8]),
    Case("debug-port-compatibility", .compatibility, "a watchpoint on a port; in compatibility mode")
      .reporting(Case.frame(1, cs: 0x18) + [8]),
    Case("debug-guard", .long, "DR7.GD guards the debug registers and clears itself")
      .reporting(Case.frame(1) + [0x400, 0x2000]),
    Case("debug-guard-user", .longUser, "#GP(0) at CPL 3, whatever DR7.GD says").reporting(Case.userFrame(13))
      .prepared { state, _ in state.debug.dr7 = 0x2400 },
    Case("debug-guard-compatibility", .compatibility, "DR7.GD guards the debug registers; in compatibility mode")
      .reporting(Case.frame(1, cs: 0x18) + [0x400, 0x2000]),
    Case("debug-real-guard", .real, "DR7.GD guards the debug registers in real mode")
      .reporting(Case.frame16(1) + [0x400, 0x2000]),
    Case("debug-port-user", .longUser, "a watchpoint on a port that CPL 3 may use")
      .reporting(Case.userFrame(1, flags: 0x3000))
      .prepared { state, _ in
        state.debug.addresses[3] = 0xb8
        state.debug.dr7 = 0x2000_0480
        state.general.rflags |= 0x3000
      },
    Case("debug-real", .real, "breakpoints of all kinds in real mode")
      .reporting([1, 2, 8].flatMap { Case.frame16(1) + [0xffff_0ff0 | $0] }),
    Case("debug-refused", .long, "#UD for DR4 with CR4.DE, #GP(0) for upper halves of DR6 and DR7")
      .reporting(Case.frame(6) + Case.frame(13) + Case.frame(13)),
    Case("debug-registers", .long, "DR0 to DR3 hold 64 bits; DR6 and DR7 have bits that are always set")
      .reporting([0x1234_5678_9abc_def0, 0xedcb_a987_6543_210f, 0xffff_0ff0, 0x400]),
    Case("debug-step", .long, "DR6.BS after a single step").reporting(Case.frame(1, flags: 0x100) + [0x4000]),
    Case("debug-user", .longUser, "a watchpoint at CPL 3, set from outside")
      .reporting(Case.userFrame(1))
      .prepared { state, _ in
        state.debug.addresses[0] = Layout.data
        state.debug.dr7 = 0xd_0402
      },
    Case("debug-user-instruction", .longUser, "an instruction breakpoint at CPL 3, set from outside")
      .reporting(Case.userFrame(1))
      .prepared { state, _ in
        // Behind the two stores of `arm`.
        state.debug.addresses[0] = Layout.guest + 22
        state.debug.dr7 = 0x402
      },
  ]
}
