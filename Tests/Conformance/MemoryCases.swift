// Memory operands, code that changes itself (Memory.S).

import TrivisorVMM

extension ConformanceSuite {
  private typealias Case = ConformanceCase

  private static let codeSizes: [UInt64] = [
    0x1111_1111, 0x1111_1122, 0x1133_3322, 0x4444_4444, 0x5555_5555, 0x6666_6666, 0x6666_6667, 0xe666_6667, 0x7777_7777,
    0x8888_8888, 0x9999_9999, 0xaaaa_aaaa, 0xbbbb_bbbb,
  ]

  static let memoryCases: [ConformanceCase] = [
    Case.both("memory-move", "MOVS in both directions, overlapping, across a page") {
      $0.reporting([
        0x0101_0101_0101_0101, 0x0706_0504_0302_0101, 0x1_ffff, 0x0706_0504_0302_0101, 0x2_100c,
      ])
    },
    Case.both("memory-compare", "CMPS and SCAS stop where they must; a count of zero keeps the flags") {
      $0.reporting([1, 1, 0x2_0003, 1, 0x2_0003, 1])
    },
    Case.both("memory-unaligned", "unaligned accesses, over two pages, with LOCK too") {
      $0.reporting([0x3344_5566, 0x3344, 0x1122_3344_5566_7789])
    },
    Case.both("memory-exchange", "CMPXCHG8B, XADD, XCHG, BTS") {
      $0.reporting([1, 0xbbbb_bbbb_aaaa_aaaa, 0, 0xaaaa_aaaa, 0xbbbb_bbbb, 5, 12, 0, 0x1c])
    },
    Case.both(
      "memory-exchange16", "CMPXCHG16B, which wants 16 bytes of alignment",
      results: { [1, 3, 4] + Case.frame(from: $0, 13) }
    ) { $0 },
    Case.both("memory-bits", "a bit offset reaches beyond the operand, in both directions") {
      $0.reporting([0x40, 0x8000_0000])
    },
    Case.both("memory-stack", "PUSH RSP, POP [RSP], POP RSP, 16-bit pushes, ENTER and LEAVE") {
      $0.reporting([0, 0x55, 0, 0xffff_ffff_ffff_fffe, .max, 0xffff_ffff_ffff_ffd8, 0])
    },
    Case.both("memory-addressing", "RIP-relative, 32-bit addresses, negative indices, MOVABS") {
      $0.reporting([0x5a5a_5a5a, 0x1234, 0x1234, 0x1234, .max, 0xffff_fffb, 0x1234])
    },
    Case.both("memory-partial", "32-bit results clear the upper half, narrower ones keep it") {
      $0.reporting([0x66, 0xffff_ffff_ffff_0000, 0, 0xffff_ffff_ffff_00ff, 0xffff_ffff])
    },
    Case.both("memory-swapped", "MOVBE where it is announced, else #UD or MOVBE all the same") { conformanceCase in
      conformanceCase.with { $0.results = nil }.checked { observation in
        // A processor has it or hasn't, whatever KVM makes CPUID say.
        let swapped: [UInt64] = [0x7856_3412]
        let undefined = Case.frame(from: conformanceCase.mode == .longUser, 6)
        if observation.results == swapped { return [] }
        if observation.results == undefined, !observation.features.contains(.movbe) { return [] }
        return ["expected results \(CaseMachine.list(swapped)), got \(CaseMachine.list(observation.results))"]
      }
    },
    Case.both("memory-newer", "POPCNT, LZCNT, TZCNT, PEXT, ANDN, CRC32") {
      $0.reporting([13, 3, 3, 0x3e, 0x1234_5008, 0xfa74_5634])
    },
    Case.both("code-written", "code that is written, run, changed and run again") { $0.reporting([0x42, 0x43]) },
    Case.both("code-next", "a store into the very next instruction") { $0.reporting([0x43]) },
    Case.both("code-next-loop", "the same where the instruction has run before") {
      $0.reporting([0x11, 0x12, 0x13])
    },
    Case.both("code-string", "REP STOSB over the code that follows it") { $0.reporting([0]) },
    Case.both("code-alias", "a store to code through another linear address") {
      $0.reporting([0x10, 0x77]).prepared { _, tables in try tables.map(0x3_0000, to: Layout.guest, flags: 7) }
    },
    Case.both("code-sizes", "code written by stores of each size, PUSH, LOCK, XCHG, STOS and MOVS after it has run") {
      $0.reporting(codeSizes.flatMap { [$0, $0] })
    },
    Case.both("code-sizes-vector", "the same by stores of vector registers") {
      $0.reporting([0x1111_1111, 0x2222_2222, 0x3333_3333, 0x1111_1111].flatMap { (value: UInt64) in [value, value] })
    },
    Case.both("code-move", "REP MOVSB over the code that follows it, also through another linear address") {
      $0.reporting([0x23, 0x24, 0x25, 0x26]).prepared { _, tables in
        try tables.map(0x3_0000, to: Layout.guest, flags: 7)
      }
    },
    Case.both("code-overlapping", "jumps into the middle of instructions that have run as others before") {
      $0.reporting([5, 0x5b8, 0x77, 5, 0x5b8, 0x77, 5, 0x5b8, 0x77])
    },
    Case.both("code-crossing", "an instruction on two pages, of which one or both change") {
      $0.reporting([0x1122_3344, 0x9922_3344, 0x9a])
    },
  ].flatMap(\.self)
}
