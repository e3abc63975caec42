// Real and 32-bit protected mode (LegacyExceptions.S).

import TrivisorVMM

extension ConformanceSuite {
  private typealias Case = ConformanceCase

  /// - Parameter frame: of a vector, an error code and flags.
  private static func everyException(
    _ name: String, _ mode: GuestMode, notPresent: UInt64 = 11, frame: (UInt64, UInt64, UInt64) -> [UInt64]
  ) -> ConformanceCase {
    let frames: [[UInt64]] = [
      frame(0, 0, 0), frame(3, 0, 0), frame(4, 0, 0), frame(5, 0, 0), frame(6, 0, 0), frame(notPresent, 0x50, 0),
      frame(13, 0xfff8, 0), frame(1, 0, 0x100), frame(16, 0, 0), frame(19, 0, 0),
    ]
    return Case(
      "every-exception-\(name)", mode, "#DE, #BP, #OF, #BR, #UD, #NP, #GP, #DB, #MF and #XM of 32-bit code",
      guest: "every_exception"
    ).reporting(frames.flatMap { $0 })
  }

  static let legacyCases: [ConformanceCase] = realCases + protectedCases + protectedPrivilegeCases

  private static let realCases: [ConformanceCase] = [
    Case("real-exceptions", .real, "#DE, #UD, #BP, INT n and AAM by zero in real mode")
      .reporting(
        Case.frame16(0) + Case.frame16(6) + Case.frame16(3) + Case.frame16(0x21) + Case.frame16(0)),
    Case("real-overflow", .real, "INTO traps only with OF = 1").reporting(Case.frame16(4)),
    Case("real-bound", .real, "BOUND faults only outside its bounds").reporting([1] + Case.frame16(5)),
    Case("real-interrupt-flags", .real, "INT clears IF, IRET brings it back").reporting([0, 0x200]),
    Case("real-limit", .real, "#GP and #SS for what leaves the 64 KiB of a segment")
      .reporting(Case.frame16(13) + Case.frame16(12) + Case.frame16(13)),
    Case("real-wrap", .real, "16-bit addresses and SP wrap within 64 KiB").reporting([0x5a, 0xfffe, 0x1234]),
    Case("real-high-memory", .real, "segment 0xffff reaches beyond 1 MiB: A20 is on").reporting([0x77]),
    Case("real-far", .real, "far call and return").reporting([0x100, 0, 2]),
  ]

  private static let protectedCases: [ConformanceCase] = [
    Case("protected-exceptions", .protected, "#DE and #UD in protected mode")
      .reporting(Case.frame32(0) + Case.frame32(6)),
    Case("protected-traps", .protected, "#BP and #OF in protected mode")
      .reporting(Case.frame32(3) + Case.frame32(4)),
    Case("protected-bound", .protected, "#BR in protected mode").reporting(Case.frame32(5)),
    everyException("protected", .protected) { Case.frame32($0, error: $1, flags: $2) },
    everyException("compatibility", .compatibility) { Case.frame($0, error: $1, cs: 0x18, flags: $2) },
    // The segment that is not present is not for CPL 3 either.
    everyException("compatibility-user", .compatibilityUser, notPresent: 13) {
      Case.frame($0, error: $1, cs: 0x33, flags: $2, stack: Layout.userStack, ss: 0x3b, top: Layout.rsp0)
    },
    Case("every-exception-task-switched", .protected, "#NM for x87 and SSE instructions of 32-bit code")
      .reporting(Case.frame32(7) + Case.frame32(7)).prepared { state, _ in state.system.cr0 |= 8 },
    Case(
      "every-exception-task-switched-user", .compatibilityUser, "the same in compatibility mode at CPL 3",
      guest: "every_exception_task_switched"
    )
    .reporting(
      [7, 7].flatMap { (vector: UInt64) -> [UInt64] in
        Case.frame(vector, cs: 0x33, stack: Layout.userStack, ss: 0x3b, top: Layout.rsp0)
      }
    ).prepared { state, _ in state.system.cr0 |= 8 },
    Case("protected-adjust-privilege", .protected, "ARPL raises the RPL").reporting([0x23]),
    Case("protected-instructions", .protected, "PUSHA, POPA, DAA, AAM, AAD, LES and SALC")
      .reporting([0x1111_1111, 0x2222_2222, 0x47, 0x701, 0x47, 0x123_4567, 0xff]),
    Case("protected-segments", .protected, "#GP(0) for accesses against limit, direction, type, and through null")
      .reporting((0..<5).flatMap { _ in Case.frame32(13) }),
    Case("protected-segment-load", .protected, "what SS and DS can't be loaded with")
      .reporting(
        [(13, 0), (13, 0x38), (13, 0x58), (13, 0x78), (11, 0x50)].flatMap { Case.frame32($0.0, error: $0.1) }),
    Case("protected-accessed", .protected, "loading a segment sets its descriptor's accessed bit").reporting([0x93]),
    Case("protected-far-refused", .protected, "#GP for a far jump to data, to null, beyond the table")
      .reporting(Case.frame32(13, error: 0x10) + Case.frame32(13) + Case.frame32(13, error: 0x1000)),
    Case("protected-task-refused", .protected, "#TS for a task switch to a TSS that is too small")
      .reporting(Case.frame32(10, error: 0x88))
      .prepared { _, tables in
        try tables.write(
          TableWriter.descriptor(base: 0x2_0000, limit: 0x10, attributes: 0x89), at: Layout.gdt + 0x88)
      },
    Case("protected-stack16", .protected, "on a 16-bit stack SP counts and ESP's upper half stays")
      .reporting([0x1234_00fc, 0x5566_7788]),
  ]

  private static let protectedPrivilegeCases: [ConformanceCase] = [
    Case("protected-privilege", .protected, "IRET into CPL 3; a fault comes back on ESP0 with SS and ESP in its frame")
      .reporting(
        [0x33, 0xfa0d, 0, 0, 0x33, 0, Layout.userStack, 0x3b, Layout.rsp0, Layout.userStack]),
    Case("protected-call-gate", .protected, "a call gate copies parameters to the inner stack")
      .reporting([0x18, 0x1_1fe8, 0x2222, 0x1111, Layout.userStack, 0x33])
      .accompanied(by: "protected_call_gate_target")
      .prepared { _, tables in
        // Offset 0x9000, CODE32, two parameters, a 32-bit call gate of DPL 3.
        try tables.write(0x9000 | 0x18 << 16 | 2 << 32 | 0xec << 40, at: Layout.gdt + 0x88)
      },
    Case("protected-conforming", .protectedUser, "conforming code runs at its caller's privilege")
      .reporting([0x63, 0x33]),
  ]
}
