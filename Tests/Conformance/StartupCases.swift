// A second processor (Startup.S).

import TrivisorVMM

extension ConformanceSuite {
  private typealias Case = ConformanceCase

  private static func pair(
    _ name: String, _ summary: String, second: String = "startup_second", results: [UInt64]
  ) -> ConformanceCase {
    Case(name, .long, summary).with { $0.processorCount = 2 }.reporting(results).accompanied(by: second)
  }

  static let startupCases: [ConformanceCase] = [
    pair("startup-waiting", "a processor that nobody started does nothing", results: [0]),
    pair(
      "startup-page", "INIT and a start-up IPI by the register page: CS, IP, real mode, IF = 0",
      results: [0x900, 0, 0, 0, 0x100]),
    pair("startup-msr", "the same by the x2APIC's MSR", results: [0x900, 0, 0, 0, 0x100]),
    pair("startup-broadcast", "the same to all but oneself", results: [0x900, 0, 0, 0, 0x100]),
    pair(
      "startup-interrupt", "interrupts from one processor to the other and back",
      second: "startup_interrupt_second", results: [1] + Case.frame(0x52, flags: 0x200) + [2]),
    pair(
      "startup-locked", "LOCK makes a read-modify-write one with regard to the other processor",
      second: "startup_locked_second", results: [2000]),
    pair(
      "startup-again", "INIT stops a running processor, which can be started anew", second: "startup_again_second",
      results: [0x101, 0x101, 0x100]),
  ]
}
