// Exceptions in 64-bit mode (Exceptions.S).

import TrivisorVMM

extension ConformanceSuite {
  private typealias Case = ConformanceCase

  static let exceptionCases: [ConformanceCase] =
    bothLevelExceptions + kernelExceptions + tripleFaults

  private static let bothLevelExceptions: [ConformanceCase] = [
    Case.both(
      "exception-divide", "#DE: by zero, and a quotient that does not fit; RAX stays",
      results: { Case.frame(from: $0, 0) + Case.frame(from: $0, 0) + [0x8000_0000_0000_0000] }),
    Case.both(
      "exception-breakpoint", "#BP: a trap, from INT3 and from INT 3",
      results: { Case.frame(from: $0, 3) + Case.frame(from: $0, 3) }),
    Case.both("exception-overflow", "#OF by INT 4, a trap", results: { Case.frame(from: $0, 4) }),
    Case.both(
      "exception-invalid-opcode", "#UD: UD2, PUSH ES and INTO in 64-bit mode, LOCK on a register",
      results: { isUser in (0..<4).flatMap { _ in Case.frame(from: isUser, 6) } }),
    Case.both("exception-debug-instruction", "#DB by INT1, a trap", results: { Case.frame(from: $0, 1) }),
    Case.both(
      "exception-single-step", "#DB behind the instruction after the one that set TF",
      results: { Case.frame(from: $0, 1, flags: 0x100) }),
    Case.both(
      "exception-noncanonical", "#GP(0) for a non-canonical address",
      results: { Case.frame(from: $0, 13) + Case.frame(from: $0, 13) }),
    Case.both(
      "exception-noncanonical-stack", "#SS(0) for one through RBP", results: { Case.frame(from: $0, 12) }),
    Case.both(
      "exception-noncanonical-jump", "#GP(0) at the branch whose target is not canonical",
      results: { Case.frame(from: $0, 13) }),
    Case.both(
      "exception-noncanonical-direct", "#GP(0) at a direct branch whose target is not canonical; RSP stays",
      results: { isUser in (0..<3).flatMap { _ in Case.frame(from: isUser, 13) } }
    ) {
      $0.prepared { _, tables in
        // The last page below the hole is the guest's data.
        try tables.write(0x3_1007, at: Layout.level4 + 8 * 255)
        try tables.write(0x3_2007, at: 0x3_1000 + 8 * 511)
        try tables.write(0x3_3007, at: 0x3_2000 + 8 * 511)
        try tables.write(Layout.data | 7, at: 0x3_3000 + 8 * 511)
      }
    },
    Case.both(
      "exception-segment-load",
      "#GP(selector), #NP(selector), #SS(selector) by loading DS, ES, SS with what can't be loaded",
      results: { isUser in
        [(13, 0x1000), (isUser ? 13 : 11, 0x50), (13, 0x58), (isUser ? 13 : 12, 0x50), (13, 0xa8)].flatMap {
          Case.frame(from: isUser, $0.0, error: $0.1)
        }
      }),
    Case.both(
      "exception-gate-not-present", "#NP with vector and IDT bit for INT n to a gate that is not present",
      results: { Case.frame(from: $0, 11, error: 0x22 << 3 | 2) }
    ) {
      $0.prepared { _, tables in try tables.writeLongModeGate(0x22, attributes: 0x6e) }
    },
    Case.both(
      "exception-gate-beyond", "#GP with vector and IDT bit for INT n beyond the IDT's limit",
      results: { Case.frame(from: $0, 13, error: 0xf0 << 3 | 2) }
    ) {
      $0.prepared { state, _ in state.system.idt.limit = 0x6ff }
    },
    [
      Case(
        "exception-gate-privilege-user", .longUser, "#GP with vector and IDT bit for INT n to a gate of DPL 0",
        guest: "exception_gate_privilege"
      )
      .reporting(Case.userFrame(13, error: 0x21 << 3 | 2)),
      Case(
        "exception-null-stack-segment", .longUser, "from CPL 3 the handler gets SS = 0, CS of the gate, DS as it was"
      )
      .reporting([0, 8, 0x3b])
      .accompanied(by: "exception_null_stack_segment_handler")
      .prepared { _, tables in
        try tables.writeLongModeGate(6, offset: Layout.companion)
      },
    ],
  ].flatMap(\.self)

  private static let kernelExceptions: [ConformanceCase] = [
    Case("exception-single-step-rep", .long, "a REP instruction is single-stepped an iteration at a time")
      .reporting(
        Case.frame(1, flags: 0x100, stack: 0xeff8, top: 0xeff0)
          + Case.frame(1, rip: 2, flags: 0x100, stack: 0xeff8, top: 0xeff0)
          + Case.frame(1, rip: 3, flags: 0) + [0]),
    Case("exception-noncanonical-push", .long, "#SS(0) for PUSH with a non-canonical RSP, on a stack that exists")
      .reporting(Case.frame(12, stack: 0x8000_0000_1000, top: Layout.ist1))
      .prepared { _, tables in try tables.writeLongModeGate(12, stackTable: 1) },
    Case("exception-far-return", .long, "#NP(selector), #GP(selector), #GP(0): a far return to what is no code")
      .reporting(
        Case.frame(11, error: 0xb0, stack: 0xeff0) + Case.frame(13, error: 0x10, stack: 0xeff0)
          + Case.frame(13, stack: 0xeff0)),
    Case("exception-double-fault", .long, "#DF(0) when #GP can't be delivered")
      .reporting(Case.frame(8))
      .prepared { _, tables in try tables.writeLongModeGate(13, attributes: 0x0e) },
    Case("exception-double-fault-stack", .long, "#DF(0) when #PF can't be delivered, on the IST's stack")
      .reporting(Case.frame(8, stack: 0x3_0100, top: Layout.ist1))
      .prepared { _, tables in
        try tables.map(0x3_0000, to: 0, flags: 0)
        try tables.map(0x2_f000, to: 0, flags: 0)
        try tables.writeLongModeGate(8, stackTable: 1)
      },
    Case("exception-frame-alignment", .long, "the frame is aligned to 16 bytes and holds the RSP that was")
      .reporting(Case.frame(6, stack: 0xeffb, top: 0xeff0)),
    Case("exception-stack-table", .long, "a gate's IST index changes the stack; IRET brings the old one back")
      .reporting(Case.frame(6, top: Layout.ist1) + [Layout.stack])
      .prepared { _, tables in try tables.writeLongModeGate(6, stackTable: 1) },
    Case("exception-frame-flags", .long, "the frame has IF and DF as they were, and IRET brings them back")
      .reporting(Case.frame(6, flags: 0x600) + [0x600]),
  ]

  private static let tripleFaults: [ConformanceCase] = [
    Case("triple-fault-64", .long, "a fault without an IDT ends the machine, 64-bit mode")
      .ending(.stopped(.tripleFault)).prepared { state, _ in state.system.idt.limit = 0 },
    Case("triple-fault-user", .longUser, "the same from CPL 3", guest: "triple_fault_64")
      .ending(.stopped(.tripleFault)).prepared { state, _ in state.system.idt.limit = 0 },
    Case("triple-fault-32", .protected, "the same in protected mode")
      .ending(.stopped(.tripleFault)).prepared { state, _ in state.system.idt.limit = 0 },
    Case("triple-fault-16", .real, "the same in real mode")
      .ending(.stopped(.tripleFault)).prepared { state, _ in state.system.idt.limit = 0 },
  ]
}
