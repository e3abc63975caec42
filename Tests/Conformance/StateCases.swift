// Stopping, and the processor's state from outside (State.S).

import TrivisorVMM

extension ConformanceSuite {
  private typealias Case = ConformanceCase

  static let stateCases: [ConformanceCase] = stopCases + writtenCases + roundTripCases

  /// One sentence unless both are equal.
  private static func compare<Value: Equatable>(_ name: String, _ expected: Value, _ got: Value) -> [String] {
    expected == got ? [] : ["\(name): expected \(expected), got \(got)"]
  }

  /// Time passes between two readings: the counters and what counts down in the local APIC are left out.
  private static func withoutTime(_ state: MachineState) -> MachineState {
    var state = state
    state[modelSpecific: 0x10] = nil
    state.localAPIC = []
    return state
  }

  /// Reads, writes the same, reads again; one sentence for each part that differs.
  private static func roundTrip(_ processor: any Processor) throws -> [String] {
    let before = withoutTime(try processor.readState())
    try processor.writeState(before)
    let after = withoutTime(try processor.readState())
    return compare("general registers", before.general, after.general)
      + compare("system registers", before.system, after.system)
      + compare("debug registers", before.debug, after.debug)
      + compare("model-specific registers", before.modelSpecific, after.modelSpecific)
      + compare("XCR0", before.extended.xcr0, after.extended.xcr0)
      + (before.extended.area == after.extended.area ? [] : ["the XSAVE area differs"])
      + compare("events", before.events, after.events) + compare("activity", before.activity, after.activity)
  }

  private static func isAt(_ address: UInt64) -> @Sendable (Observation) throws -> [String] {
    { compare("RIP", address, $0.states[0].general.rip) }
  }

  /// Of the string instruction in `stop_rep`.
  private static let repetitions: UInt64 = 0x100_0000_0000

  private static let stopCases: [ConformanceCase] = [
    [
      Case("stop-loop", .long, "a stop request reaches a jump to itself").ending(.stopRequested)
        .checked(isAt(Layout.guest + 8)),
      Case("stop-loop-user", .longUser, "the same at CPL 3", guest: "stop_loop").ending(.stopRequested)
        .checked(isAt(Layout.guest + 8)),
      Case("stop-loop-16", .real, "the same in real mode with interrupts off").ending(.stopRequested)
        .checked(isAt(Layout.guest + 5)),
      Case("stop-halt", .long, "the same in HLT").ending(.stopRequested),
    ],
    Case.both("stop-rep", "a stop request reaches a string instruction, whose registers say how far it came") {
      $0.ending(.stopRequested)
        .prepared { _, tables in
          // Linear 6 MiB to 1 GiB is RAM over and over.
          for entry in UInt64(3)..<512 { try tables.write(0x20_0000 | 0x87, at: Layout.level2 + 8 * entry) }
        }
        .checked { observation in
          let general = observation.states[0].general
          let done = repetitions &- general.rcx
          guard done > 0, general.rcx > 0 else { return ["RCX is \(general.rcx)"] }
          return compare("RSI", 0x60_0000 &+ done, general.rsi)
        }
        .with { $0.isTooEarly = { try $0.readState().general.rcx == repetitions } }
    },
    Case.both("stop-many", "twenty stops, and nothing is lost") {
      $0.reporting([0]).with { $0.interlude = { _ in [] } }
    },
  ].flatMap(\.self)

  private static let roundTripCases: [ConformanceCase] = [
    Case.both("stop-state", "at a stop registers can be read, changed, and are as written") {
      $0.with {
        $0.interlude = { processor in
          var state = try processor.readState()
          var findings =
            compare("R8", 0x11, state.general.r8) + compare("R15", 0x22, state.general.r15)
            + compare("RBP", 0x33, state.general.rbp)
          state.general.r8 = 0x44
          state.general.r15 = 0x55
          state.general.rbp = 0x1_2345_6789
          state.general.rsp &-= 0x100
          try processor.writeState(state)
          findings += compare("general registers", state.general, try processor.readState().general)
          return findings
        }
        let stack = $0.mode == .longUser ? Layout.userStack : Layout.stack
        $0.results = [0x44, 0x55, 0x1_2345_6789, stack - 0x100]
      }
    },
    Case.both("stop-round-trip", "a state that was read and written back reads the same", guest: "stop_state") {
      $0.with { $0.interlude = { try roundTrip($0) } }
        .with {
          let stack = $0.mode == .longUser ? Layout.userStack : Layout.stack
          $0.results = [0x11, 0x22, 0x33, stack]
        }
    },
    Case.both("state-vector", "vector registers written before the start arrive; those written at a stop too") {
      $0.reporting([0x1111_1111_1111_1111, 0x3f80, 0x27f, 0x4444_4444_4444_4444])
        .reporting([0x5555_5555_5555_5555, 0x6666_6666_6666_6666])
        .prepared { state, _ in
          state.system.cr4 |= 1 << 18
          state.extended = vectorState
        }
        .with {
          $0.interlude = { processor in
            var state = try processor.readState()
            let area = state.extended.area
            guard area.count >= 832 else { return ["the XSAVE area has \(area.count) bytes"] }
            let findings =
              compare("XMM1", Array(repeating: 0x11, count: 16), Array(area[176..<192]))
              + compare("YMM1, upper half", Array(repeating: 0x44, count: 16), Array(area[592..<608]))
            for byte in 0..<16 {
              state.extended.area[192 + byte] = 0x55
              state.extended.area[608 + byte] = 0x66
            }
            state.extended.area[512] = 7
            try processor.writeState(state)
            return findings
          }
        }
    },
  ].flatMap(\.self)

  /// XMM1 all 0x11, its upper half all 0x44, FCW 0x27f, MXCSR 0x3f80.
  private static let vectorState: ExtendedState = {
    var extended = ExtendedState()
    extended.xcr0 = 7
    extended.area = Array(repeating: 0, count: 832)
    extended.area[0] = 0x7f
    extended.area[1] = 0x02
    extended.area[24] = 0x80
    extended.area[25] = 0x3f
    for byte in 0..<16 {
      extended.area[176 + byte] = 0x11
      extended.area[592 + byte] = 0x44
    }
    extended.area[512] = 7
    return extended
  }()

  private static let writtenCases: [ConformanceCase] = [
    Case.both("state-written", "general registers and flags written before the start arrive") {
      $0.reporting([0x1122_3344_5566_7788, 2, 3, 4, 5, 0x8d5])
        .prepared { state, _ in
          state.general.rax = 0x1122_3344_5566_7788
          (state.general.rbx, state.general.rsi, state.general.r9, state.general.r14) = (2, 3, 4, 5)
          state.general.rflags = 0x8d7
        }
    },
    Case.both("state-general", "a device stops the guest right behind the instruction; all registers can be read") {
      $0.ending(.stopped(.exited(code: 7))).checked { observation in
        var expected = GeneralRegisters()
        (expected.rax, expected.rcx, expected.rdx, expected.rbx) = (0, 1, 2, 3)
        (expected.rsp, expected.rbp, expected.rsi, expected.rdi) = (0, 4, 5, 6)
        (expected.r8, expected.r9, expected.r10, expected.r11) = (8, 9, 10, 11)
        (expected.r12, expected.r13, expected.r14, expected.r15) = (12, 13, 14, 0x1122_3344_5566_7788)
        var got = observation.states[0].general
        got.rsp = 0
        got.rflags &= 0x8d7
        expected.rflags = 3
        expected.rip = Layout.guest + 91
        return compare("general registers", expected, got)
      }
    },
    [
      Case("state-port", .long, "a port device stops the guest right behind the OUT")
        .ending(.stopped(.exited(code: 7))).checked(isAt(Layout.guest + 4)),
      Case("state-port-16", .real, "the same in real mode", guest: "state_port")
        .ending(.stopped(.exited(code: 7))).checked(isAt(Layout.guest + 4)),
      Case("state-system", .long, "control, debug, descriptor and model-specific registers written before arrive")
        .reporting([
          0x1234_5678_9abc, 0x5678, 0x2_3000, 0x10, 0x8100_0000, 0x0106_0106, 0x77, 3, 0xb7,
        ])
        .prepared { state, tables in
          state.system.cr2 = 0x1234_5678_9abc
          state.system.cr8 = 3
          state.system.fs.base = 0x2_1000
          state.system.gdt.limit = 0xb7
          state.debug.addresses[0] = 0x5678
          state[modelSpecific: 0xc000_0102] = 0x10_0002_3000
          state[modelSpecific: 0xc000_0082] = 0xffff_ffff_8100_0000
          state[modelSpecific: 0x277] = 0x0106_0106_0106_0106
          try tables.write(0x77, at: 0x2_1000)
        },
      pending("exception", "an exception", Case.frame(6)) { $0.exception = .init(vector: 6) },
      pending("error-code", "an exception with its error code", Case.frame(13, error: 0x58)) {
        $0.exception = .init(vector: 13, errorCode: 0x58)
      },
      pending("interrupt", "an interrupt in the middle of its delivery", Case.frame(0x51)) { $0.interrupt = 0x51 },
      pending("nmi", "an NMI", Case.frame(2)) { $0.nonMaskablePending = true },
    ],
  ].flatMap(\.self)

  /// The handler finds the first instruction as the place, and sends the guest behind it.
  private static func pending(
    _ name: String, _ what: String, _ results: [UInt64], _ change: @escaping @Sendable (inout PendingEvents) -> Void
  ) -> ConformanceCase {
    Case("state-pending-" + name, .long, what + " that is pending at the start comes first", guest: "state_pending")
      .reporting(results)
      .prepared { state, tables in
        change(&state.events)
        try tables.write(Layout.guest, at: 0xd000)
        try tables.write(Layout.guest + 1, at: 0xd008)
      }
  }
}
