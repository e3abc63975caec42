// Single steps in real mode (SteppingReal.S).

import TrivisorVMM

extension ConformanceSuite {
  private typealias Case = ConformanceCase

  /// A trap at a place, whose frame has TF.
  private static func at(_ place: UInt64, cs: UInt64 = 0) -> [UInt64] {
    Case.frame16(1, ip: place, cs: cs, flags: 0x100)
  }
  /// PUSH and POPF at the end, from `place` on: the last trap, whose frame has no TF.
  private static func end(_ place: UInt64, cs: UInt64 = 0) -> [UInt64] {
    at(place + 2, cs: cs) + Case.frame16(1, ip: place + 3, cs: cs)
  }

  /// A place as it is in the segment 0x800, where the guest begins at 0.
  private static func far(_ place: UInt64) -> UInt64 { (place &- Layout.guest) & 0xffff }

  static let steppingRealCases: [ConformanceCase] = [
    Case("step-real-plain", .real, "a trap behind each instruction of real mode").reporting(at(1) + at(2) + end(2)),
    Case("step-real-interrupts", .real, "INT n and INT3 clear TF; behind IRET the next instruction is the first")
      .reporting(
        Case.frame16(0x21, ip: 2, flags: 0x100) + at(3) + Case.frame16(3, ip: 4, flags: 0x100) + at(5) + end(5)),
    Case("step-real-debug-instruction", .real, "INT1 is a trap of its own").reporting(at(1) + at(2) + end(2)),
    Case("step-real-stack-segment", .real, "MOV SS and POP SS hold the trap back for one instruction; MOV DS does not")
      .reporting(at(2) + at(5) + at(7) + at(8) + at(10) + end(10)),
    Case("step-real-repeated", .real, "each round of a repeated instruction has a trap")
      .reporting(at(3) + at(6) + at(6) + at(6) + at(8) + end(8)),
    Case("step-real-branches", .real, "branches are stepped to where they lead, far ones too")
      .reporting(
        at(3) + at(6) + at(7) + at(far(12), cs: 0x800) + at(far(15), cs: 0x800) + end(far(15), cs: 0x800)),
    Case("step-real-flags", .real, "POPF and IRET are traps by what TF was before them")
      .reporting(at(3) + at(4) + at(5) + at(8) + at(9) + at(12) + at(13) + at(14) + end(14)),
    Case("step-real-fault", .real, "an instruction that faults has no trap, and its frame has TF")
      .reporting([0, 0x100] + at(3) + end(3)),
    Case("step-real-halt", .real, "a single step ends HLT at once").reporting(at(1) + at(2) + end(2)),
    Case("step-real-branch-flag", .real, "DebugCtl.BTF counts for one trap").reporting(at(4) + at(5) + end(5))
      .prepared { state, _ in state.modelSpecific.append(ModelSpecificRegister(index: 0x1d9, value: 2)) },
  ]
}
