// The same instruction again, when what it depends on is not what it was (Repeated.S).

import TrivisorVMM

extension ConformanceSuite {
  private typealias Case = ConformanceCase

  /// What the guest shows of its flags for each it sets.
  private static let systemCallRounds: [UInt64] = {
    let shown: UInt64 = 0x4_0cd5
    let flags: [UInt64] = [2, 3, 0x402, 0x8d7, 0x893, 0x4_0c3, 0x4_0003]
    return flags.enumerated().flatMap { round, flags -> [UInt64] in
      let mask: UInt64 = round > 3 ? 1 : 0x400
      let kernel = (round > 3 ? [0x5555] : []) + [flags & ~mask & shown, 0, flags & shown, 8, 0x10]
      return kernel + [(flags ^ 0x801) & shown, Layout.userStack]
    }
  }()

  private static let interruptReturns: [UInt64] = {
    let flags: [UInt64] = [0, 0x3000, 0x400, 0x8d5, 0x20_0001, 0x891]
    return flags.flatMap { [$0, 0xefe0, 0x10] }
  }()

  private static let stringRound: [UInt64] =
    [0, 0x2_27f8, 0x2_6804, 0x2_27f0]
    + [0, 0x2_27f8, 0x2_6004, 0x6767_6767_6767_67f0]
    + [0, 0x2_27f8, 0x2_6004]
    + [0, 0x2_0120, 0x2_0121, 0]
    + [0, 0x2_0fe4, 0x2_1fe3]
    + [0, 0x2_0fe5, 0x2_1fec]
    + Case.frame(14, error: 2, cr2: 0x2_8000)
    + [0x401, 0x2_1ffc, 0x2_7fff]

  static let repeatedCases: [ConformanceCase] = [
    Case("repeated-system-call", .long, "SYSCALL and SYSRET with other flags, another target and another mask")
      .reporting(systemCallRounds),
    Case("repeated-system-call-selectors", .long, "SYSCALL looks at STAR each time")
      .reporting([8, 0x10, 8, 0x10, 8, 0x10, 0x80, 0x88, 0x80, 0x88, 0x43]),
    Case("repeated-interrupt-return", .long, "IRETQ within CPL 0 reads flags and descriptors each time")
      .reporting(interruptReturns + [0, 0, 0, 2, 1])
      .ending(.stopped(.tripleFault)),
    Case("repeated-fault", .long, "a handler returns to CPL 3 again and again")
      .reporting([0, 1, 2, 3].flatMap { (_: Int) -> [UInt64] in Case.userFrame(6) }),
    Case("repeated-return-refused", .long, "an IRETQ to a stack segment that has become not present is #SS(selector)")
      .reporting(Case.frame(12, error: 0x38, stack: 0xefd8, top: 0xefd0) + [1]),
    Case("repeated-flags", .long, "POPFQ at CPL 0 with other flags, TF at last")
      .reporting(
        [0, 1, 0x3400, 0x8d5, 0x4000, 0x4_0001, 0x4_0000, 0x20_0000, 0x10c1]
          + Case.frame(1, flags: 0x100, stack: 0xeff8, top: 0xeff0) + [9]),
    Case("repeated-flags-user", .longUser, "POPFQ at CPL 3 with other flags leaves IF and IOPL alone")
      .reporting([0, 1, 0x400, 0x8d5, 0x4000, 0x4_0001, 0x4_0000, 0x20_0000, 0xc1]),
    Case("repeated-access", .long, "STAC and CLAC open and close user pages; IRETQ brings AC back")
      .reporting(
        [3, 2, 1].flatMap { (round: UInt64) -> [UInt64] in
          Case.frame(14, error: 1, cr2: Layout.data) + Case.frame(6, flags: 0x4_0000) + [round]
        }),
    Case(
      "repeated-string", .long, "REP MOVS and STOS over pages, downwards, overlapping, into a page that is not there"
    )
    .reporting(stringRound + stringRound)
    .prepared { _, tables in try tables.map(0x2_8000, to: 0x2_8000, flags: 0) },
    Case("repeated-reads", .long, "control registers and selectors read as they are now")
      .reporting(
        [3, 2, 1].flatMap { (round: UInt64) -> [UInt64] in
          let isOdd = round & 1 == 1
          let address = 0x4800_0000 + round
          return [0x1230 + round] + Case.frame(14, cr2: address) + [address, isOdd ? 0x1_0000 : 0, isOdd ? 4 : 0]
            + [0xffff_ffff_ffff_0000 | (isOdd ? 0x10 : 0), isOdd ? 0x10 : 0]
        }),
    Case("repeated-bases", .long, "WRGSBASE checks its operand and CR4 each time")
      .reporting(
        [0x1000, 0, 0xffff_8000_0000_0000, 1] + Case.frame(13) + [0xffff_8000_0000_0000, 2, 0x7fff_ffff_ffff, 3]
          + Case.frame(6)),
  ]
}
