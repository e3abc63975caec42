// External interrupts, NMIs, HLT and the local APIC (Interrupts.S).

import TrivisorVMM

extension ConformanceSuite {
  private typealias Case = ConformanceCase

  private static func interrupt(_ vector: UInt64, rip: UInt64 = 0) -> [UInt64] {
    Case.frame(vector, rip: rip, flags: 0x200)
  }

  static let interruptCases: [ConformanceCase] = windowCases + haltCases + nonMaskableCases + controllerCases

  private static let windowCases: [ConformanceCase] = [
    Case("interrupt-message", .long, "a message-signalled interrupt is taken at the next boundary when IF = 1")
      .reporting(interrupt(0x51) + [1]),
    Case("interrupt-window", .long, "with IF = 0 it waits; STI opens the window one instruction later")
      .reporting([1] + interrupt(0x51) + [2, 3]),
    Case("interrupt-sti-cli", .long, "STI directly before CLI opens no window")
      .reporting([1] + interrupt(0x51)),
    Case("interrupt-mov-ss", .long, "MOV SS holds the single-step trap off until behind the next instruction")
      .reporting(Case.frame(1, flags: 0x100)),
    Case("interrupt-popf", .long, "POPF opens the window at once").reporting(interrupt(0x51)),
    Case("interrupt-iret", .long, "so does IRETQ").reporting(interrupt(0x51)),
    Case("interrupt-priority", .long, "the higher vector first, the lower one after its end")
      .reporting(interrupt(0x61) + [1] + interrupt(0x51, rip: 18) + [2]),
    Case("interrupt-task-priority", .long, "CR8 keeps back what is not above it")
      .reporting([1] + interrupt(0x51) + [2]),
    Case("interrupt-external-bit", .long, "an interrupt that can't be delivered sets the error code's EXT bit")
      .reporting(Case.frame(11, error: 0x51 << 3 | 3, flags: 0x200))
      .prepared { _, tables in try tables.writeLongModeGate(0x51, attributes: 0x0e) },
    Case("interrupt-user", .long, "at CPL 3 an interrupt comes in on RSP0, and IRETQ leads back")
      .reporting(Case.userFrame(0x51, flags: 0x200) + [Layout.userStack]),
    Case("interrupt-user-loop", .long, "an endless loop at CPL 3 is interrupted")
      .reporting(Case.userFrame(0x51, flags: 0x200)),
    Case("interrupt-kernel-loop", .long, "an endless loop at CPL 0 is interrupted").reporting(interrupt(0x51)),
  ]

  private static let haltCases: [ConformanceCase] = [
    Case("interrupt-halt", .long, "an interrupt ends HLT; the frame points behind it")
      .reporting(interrupt(0x51) + [1]),
    Case("interrupt-sti-halt", .long, "an interrupt pending before STI ends the HLT behind it")
      .reporting(interrupt(0x51) + [1]),
    Case("halt-for-good", .long, "HLT with IF = 0 can't be woken, and the processor says so").ending(.haltedForGood),
  ]

  private static let nonMaskableCases: [ConformanceCase] = [
    Case("interrupt-nmi", .long, "an NMI is taken with IF = 0").reporting(Case.frame(2) + [1]),
    Case("interrupt-nmi-halt", .long, "an NMI ends a HLT with IF = 0").reporting(Case.frame(2) + [1]),
    Case("interrupt-nmi-masked", .long, "a second NMI waits until the first one's IRET")
      .reporting([1, 2, 3, 9]).accompanied(by: "interrupt_nmi_masked_handler")
      .prepared { _, tables in try tables.writeLongModeGate(2, offset: Layout.companion) },
  ]

  private static let controllerCases: [ConformanceCase] = [
    Case("interrupt-line-real", .real, "line 5 through the 8259s ends HLT, vector 0xd")
      .reporting(Case.frame16(0xd, flags: 0x200) + [1]),
    Case("interrupt-line-apic", .long, "line 5 through the I/O APIC, edge-triggered").reporting(interrupt(0x55) + [1]),
    Case("interrupt-line-level", .long, "level-triggered: it comes again until the line is released")
      .reporting(interrupt(0x55) + interrupt(0x55) + [1]),
    Case("interrupt-timer-real", .real, "the 8254's one shot on line 0").reporting(Case.frame16(8, flags: 0x200) + [1]),
    Case("interrupt-apic-timer", .long, "the local APIC's timer, one shot").reporting(interrupt(0x52) + [0]),
    Case("interrupt-deadline-timer", .long, "its deadline mode; the register is zero afterwards")
      .reporting(interrupt(0x52) + [0]),
    Case("interrupt-self", .long, "an interrupt to oneself, by register page and by x2APIC MSR")
      .reporting(interrupt(0x53) + [1] + interrupt(0x54) + [2]),
    Case("apic-registers", .long, "identification, version, spurious vector, task priority; the same as MSRs")
      .reporting([0, 1, 0x16f, 5, 0, 0x50]),
    Case("apic-memory", .long, "the local APIC's registers hide RAM where they are").reporting([1, 0x5a5a_5a5a, 1]),
  ]
}
