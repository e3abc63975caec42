// Single steps, the resume flag and the recording of branches (Stepping.S).

import TrivisorVMM

/// One report of `stepping_handlers`.
private struct Step {
  /// Bits of the second number.
  static let singleStep: UInt64 = 0x4000, trapFlag: UInt64 = 0x100, interruptFlag: UInt64 = 0x200
  static let resumeFlag: UInt64 = 0x1000
  static let interrupt: UInt64 = 0x5_0000, undefined: UInt64 = 0x6_0000, pageFault: UInt64 = 0x7_0000

  let place: UInt64
  let bits: UInt64

  /// A trap at `place`, whose frame has TF set.
  static func at(_ place: UInt64, _ more: UInt64 = 0) -> Self { Self(place: place, bits: singleStep | trapFlag | more) }
  /// A trap whose frame has not.
  static func last(_ place: UInt64) -> Self { Self(place: place, bits: singleStep) }
  static func interrupt(_ place: UInt64, _ flags: UInt64 = trapFlag) -> Self {
    Self(place: place, bits: interrupt | flags)
  }
  static func fault(_ place: UInt64, _ kind: UInt64) -> Self {
    Self(place: place, bits: kind | trapFlag | resumeFlag)
  }
}

extension ConformanceSuite {
  private typealias Case = ConformanceCase

  /// The parts of `stepping_handlers` behind their gates; system calls lead into the guest.
  private static func installHandlers(
    _ state: inout MachineState, _ tables: TableWriter, flagMask: UInt64 = 0x100
  ) throws {
    try tables.writeLongModeGate(1, offset: Layout.companion)
    for vector in [UInt64(3), 4, 0x50] {
      try tables.writeLongModeGate(vector, offset: Layout.companion + 0x80, attributes: 0xee)
    }
    try tables.writeLongModeGate(6, offset: Layout.companion + 0x100)
    try tables.writeLongModeGate(14, offset: Layout.companion + 0x180)
    // STAR, LSTAR, CSTAR, SFMASK.
    let registers: [(UInt32, UInt64)] = [
      (0xc000_0081, UInt64(Layout.userCode32) << 48 | UInt64(Layout.code64) << 32),
      (0xc000_0082, Layout.guest + 0x40), (0xc000_0083, Layout.guest + 0x40), (0xc000_0084, flagMask),
    ]
    for (index, value) in registers {
      state.modelSpecific.removeAll { $0.index == index }
      state.modelSpecific.append(ModelSpecificRegister(index: index, value: value))
    }
  }

  private static func stepping(
    _ name: String, _ mode: GuestMode, _ summary: String, _ steps: [Step], handlers: String = "stepping_handlers",
    guest: String? = nil, flagMask: UInt64 = 0x100
  ) -> Case {
    Case(name, mode, summary, guest: guest)
      .reporting(steps.flatMap { [UInt64(UInt32(truncatingIfNeeded: $0.place)), $0.bits] })
      .accompanied(by: handlers)
      .prepared { state, tables in try installHandlers(&state, tables, flagMask: flagMask) }
  }

  /// The same at both privilege levels.
  private static func both(_ name: String, _ bits: Int, _ summary: String, _ steps: [Step]) -> [Case] {
    let (kernel, user): (GuestMode, GuestMode) =
      bits == 64 ? (.long, .longUser) : (.compatibility, .compatibilityUser)
    return [
      stepping(name, kernel, summary, steps), stepping(name + "-user", user, summary + "; at CPL 3", steps),
    ]
  }

  /// And in 64-bit and in compatibility mode.
  private static func all(_ name: String, _ summary: String, _ steps: [Step]) -> [Case] {
    both(name, 64, summary, steps)
      + both(name + "-compatibility", 32, summary + "; in compatibility mode", steps)
  }

  /// PUSH and POPF at the end, from `place` on.
  private static func end(_ place: UInt64) -> [Step] { [.at(place + 2), .last(place + 3)] }

  /// A store and a load at two places, of which the watchpoint counts both.
  private static func watched(_ places: UInt64...) -> [Step] {
    [.at(places[0], 1), .at(places[1], 1), .at(places[2])] + end(places[2])
  }

  /// DR0 watches the first doubleword of the data for loads and stores.
  private static func watching(_ stepping: Case) -> Case {
    prepared(stepping) { state in
      state.debug.addresses[0] = Layout.data
      state.debug.dr7 = 0xf_0402
    }
  }

  /// IOPL 3.
  private static func privileged(_ stepping: Case) -> Case { prepared(stepping) { $0.general.rflags |= 0x3000 } }

  private static func prepared(_ stepping: Case, _ more: @escaping @Sendable (inout MachineState) -> Void) -> Case {
    stepping.prepared { state, tables in
      try installHandlers(&state, tables)
      more(&state)
    }
  }

  private static let interruptFlagSteps: [Step] =
    [
      .at(1), .at(2), .at(3, Step.interruptFlag), .at(4, Step.interruptFlag), .at(6, Step.interruptFlag), .last(7),
    ]

  /// DebugCtl.BTF is set.
  private static func byBranches(_ stepping: Case) -> Case {
    prepared(stepping) { $0.modelSpecific.append(ModelSpecificRegister(index: 0x1d9, value: 2)) }
  }

  /// Each round that stores to the watched word is told; there are two.
  private static let repeatedlyWatched: [Case] = [
    ("step-watch-repeated", GuestMode.long), ("step-watch-repeated-user", .longUser),
    ("step-watch-repeated-compatibility", .compatibility),
  ].map { name, mode in
    prepared(
      stepping(
        name, mode, "a round of a repeated instruction that hits a watchpoint is a trap of its own",
        [Step(place: 0, bits: 2), Step(place: 2, bits: 2)])
    ) { state in
      state.debug.addresses[1] = Layout.data + 2
      state.debug.dr7 = 0x50_0408
    }
  }

  static let steppingCases: [ConformanceCase] =
    all("step-plain", "a trap behind each instruction", [.at(1), .at(2)] + end(2))
    + both(
      "step-flags", 64, "POPF that sets TF, and POPF that clears it, are traps by what TF was before",
      [.at(5), .at(6), .at(7)] + end(7))
    + both(
      "step-flags-compatibility", 32, "POPF that sets TF, and POPF that clears it, are traps by what TF was before",
      [.at(5), .at(6), .at(7)] + end(7))
    + all(
      "step-branches", "branches are stepped to where they lead",
      [.at(3), .at(10), .at(8), .at(11), .at(13), .at(15), .at(18)] + end(18))
    + all(
      "step-interrupts", "INT n and INT3 clear TF without a trap; behind IRET the next instruction is the first",
      [.interrupt(2), .at(3), .interrupt(4), .at(5)] + end(5))
    + all(
      "step-debug-instruction", "INT1 is a trap of its own, without DR6.BS",
      [Step(place: 1, bits: Step.trapFlag), .at(2)] + end(2))
    + both(
      "step-overflow-compatibility", 32, "INTO traps like any instruction if it does nothing",
      [.at(1), .at(3), .at(5), .interrupt(6), .at(7)] + end(7))
    + all(
      "step-fault", "an instruction that faults has no trap; its frame has RF set",
      [.fault(0, Step.undefined), .at(3)] + end(3))
    + both(
      "step-page-fault", 64, "an instruction that faults and is restarted has one trap",
      [.at(5), .fault(5, Step.pageFault), .at(8), .at(9)] + end(9))
    + both(
      "step-page-fault-compatibility", 32, "an instruction that faults and is restarted has one trap",
      [.at(5), .fault(5, Step.pageFault), .at(7), .at(8)] + end(8))
    + all(
      "step-repeated", "each round of a repeated instruction has a trap",
      [
        .at(5), .at(10), .at(15), .at(15), .at(15), .at(17), .at(19), .at(24),
        .at(24), .at(26),
      ] + end(26))
    + both(
      "step-return", 64, "IRET is a trap by what TF was before it",
      [
        .at(3), .at(5), .at(6), .at(7), .at(12), .at(14), .at(15), .at(20), .at(22), .at(23), .at(26), .at(28),
        .at(29), .at(30), .at(32), .at(34), .at(35), .at(40), .last(42),
      ])
    + both(
      "step-return-compatibility", 32, "IRET is a trap by what TF was before it",
      [
        .at(5), .at(7), .at(8), .at(13), .at(14), .at(15), .at(17), .at(19), .at(20), .at(25), .last(26),
      ])
    + all(
      "step-stack-segment", "MOV SS holds the trap back for one instruction, another MOV SS included; MOV DS does not",
      [.at(2), .at(5), .at(10), .at(12)] + end(12))
    + both(
      "step-pop-stack-compatibility", 32, "POP SS holds the trap back for one instruction",
      [.at(2), .at(3), .at(5)] + end(5))
    + both(
      "step-stack-segment-flags", 64, "what runs behind MOV SS and clears TF has its trap all the same",
      [.at(2), .at(4), .last(7)])
    + both("step-watch", 64, "a step over a watched access is one trap for both", watched(11, 18, 19)).map(watching)
    + both(
      "step-watch-compatibility", 32, "a step over a watched access is one trap for both", watched(10, 15, 16)
    ).map(watching)
    + both("step-interrupt-flag-by-level", 64, "CLI and STI by IOPL are steps like others", interruptFlagSteps)
    .map(privileged)
    + both(
      "step-interrupt-flag-by-level-compatibility", 32, "CLI and STI by IOPL are steps like others", interruptFlagSteps
    ).map(privileged)
    + repeatedlyWatched
    + all("step-branch-flag", "DebugCtl.BTF counts for one trap", [.at(4), .at(5)] + end(5)).map(byBranches)
    + all(
      "step-stack-segment-interrupt", "the trap that MOV SS holds back is lost with INT3",
      [.at(2), .interrupt(5), .at(6)] + end(6))
    + [
      stepping(
        "step-interrupt-flag", .long, "STI holds back interrupts, not single steps",
        [.at(1, Step.interruptFlag), .at(2, Step.interruptFlag), .at(3), .at(4)] + end(4)),
      stepping(
        "step-interrupt-flag-compatibility", .compatibility, "STI holds back interrupts, not single steps",
        [.at(1, Step.interruptFlag), .at(2, Step.interruptFlag), .at(3), .at(4)] + end(4)),
      stepping("step-halt", .long, "a single step ends HLT at once", [.at(1), .at(2)] + end(2)),
      stepping(
        "step-halt-compatibility", .compatibility, "a single step ends HLT at once; in compatibility mode",
        [.at(1), .at(2)] + end(2)),
      stepping(
        "step-return-outwards", .long, "IRET from CPL 0 that sets TF for CPL 3 traps behind the next instruction",
        [.at(1)] + end(1)),
      stepping(
        "step-return-stepped", .long, "IRET to CPL 3 by a step traps there",
        [.at(2), .at(7), .at(12), .at(14), .at(19), .at(21), .at(22)] + end(22)),
      stepping(
        "step-breakpoint", .long, "a step to an instruction with a breakpoint is told before that",
        [.at(1), Step(place: 1, bits: 1 | Step.trapFlag), .at(2)] + end(2), handlers: "step_breakpoint_handler"),
      stepping(
        "step-sensitive", .long, "CPUID, RDTSC, ports, control registers and devices are stepped like the rest",
        [.at(2), .at(4), .at(6), .at(8), .at(11), .at(14), .at(19), .at(21)] + end(21)),
      stepping(
        "step-system-call", .longUser, "SYSCALL that clears TF by SFMASK has no trap; SYSRET that sets it has one",
        [.at(2), .at(0x4c), .at(0x4d)] + end(0x4d)),
      stepping(
        "step-system-call-kept", .longUser, "SYSCALL whose SFMASK leaves TF traps at the target",
        [.at(0x2c), .at(0x2d), .at(2), .at(0x4c), .at(0x4d)] + end(0x4d), guest: "step_system_call", flagMask: 0),
      stepping(
        "step-system-call-compatibility", .compatibilityUser, "the same from compatibility mode, by CSTAR",
        [.at(2), .at(0x4d), .at(0x4e)] + end(0x4e)),
      stepping(
        "step-system-call-kept-compatibility", .compatibilityUser, "the same from compatibility mode, by CSTAR",
        [.at(0x2d), .at(0x2e), .at(2), .at(0x4d), .at(0x4e)] + end(0x4e), guest: "step_system_call_compatibility",
        flagMask: 0),
      stepping(
        "step-resume-flag", .long, "RF from an IRET is gone behind the next instruction: breakpoints work",
        [Step(place: 0x10, bits: 1)], handlers: "step_resume_handler"),
      stepping(
        "step-resume-repeated", .long, "RF lasts for all rounds of a repeated instruction",
        [Step(place: 0, bits: 1)], handlers: "step_resume_handler"),
      stepping(
        "step-resume-interrupt", .long, "INT3 pushes no RF",
        [.interrupt(1, 0)], handlers: "step_resume_handler"),
      stepping(
        "step-stack-segment-breakpoint", .long, "MOV SS does not hold back a breakpoint on the next instruction",
        [Step(place: 0, bits: 1)], handlers: "step_resume_handler"),
      stepping(
        "step-stack-segment-watch", .long, "MOV SS holds back its own operand's watchpoint for one instruction",
        [Step(place: 8, bits: 2), Step(place: 0x105a, bits: 2), .interrupt(0x11, 0)]),
      Case("step-to-branch", .long, "DebugCtl.BTF: traps behind branches only; cleared by #DB; reserved bits are #GP")
        .reporting([2, 7, 0x4100, 8, 0x4100, 10, 0x4100, 11, 0x4000, 0] + Case.frame(13))
        .accompanied(by: "stepping_handlers").prepared { state, tables in try installHandlers(&state, tables) },
      Case("step-last-branch", .long, "DebugCtl.LBR: the last branch and the last interrupt")
        .reporting([0, Step.interrupt, 0, 3, 0xffff_fffe, Layout.companion + 0x80])
        .accompanied(by: "stepping_handlers").prepared { state, tables in try installHandlers(&state, tables) },
      stepping(
        "step-port-string", .long, "string instructions to a watched port have a trap behind each round",
        [Step(place: 0, bits: 8), Step(place: 2, bits: 8)]),
    ]
}
