// Page faults (PageFaults.S).

import TrivisorVMM

extension ConformanceSuite {
  private typealias Case = ConformanceCase

  private static let page: UInt64 = 0x3_0000
  private static let notExecutable: UInt64 = 1 << 63

  /// One guest, one entry for the page, both levels.
  private static func fault(
    _ name: String, _ guest: String, entry: UInt64, error: UInt64, cr2: UInt64 = page + 0x123, _ summary: String,
    levels: [GuestMode] = [.long, .longUser],
    _ change: @escaping @Sendable (inout MachineState) -> Void = { _ in }
  ) -> [ConformanceCase] {
    levels.map { mode in
      let isUser = mode == .longUser
      return Case(
        "page-fault-" + name + (isUser ? "-user" : ""), mode, "#PF: " + summary + (isUser ? "; at CPL 3" : ""),
        guest: "page_fault_" + guest
      )
      .reporting(Case.frame(from: isUser, 14, error: error | (isUser ? 4 : 0), cr2: cr2))
      .prepared { state, tables in
        try tables.write(entry, at: Layout.level1 + 8 * (page >> 12))
        change(&state)
      }
    }
  }

  static let pageFaultCases: [ConformanceCase] = [
    fault("read", "read", entry: 0, error: 0, "a load from a page that is not there"),
    fault("write", "write", entry: 0, error: 2, "a store to a page that is not there"),
    fault("modify", "modify", entry: 0, error: 2, "a read-modify-write of a page that is not there is a write"),
    fault("fetch", "fetch", entry: 0, error: 0x10, cr2: page, "a jump to a page that is not there, NX enabled"),
    fault(
      "supervisor-read", "read", entry: page | 3, error: 1, "a load from a supervisor page", levels: [.longUser]),
    fault(
      "supervisor-write", "write", entry: page | 3, error: 3, "a store to a supervisor page", levels: [.longUser]),
    fault(
      "supervisor-fetch", "fetch", entry: page | 3, error: 0x11, cr2: page, "a jump to a supervisor page",
      levels: [.longUser]),
    fault("read-only", "write", entry: page | 5, error: 3, "a store to a read-only page, CR0.WP = 1") {
      $0.system.cr0 |= 1 << 16
    },
    fault("read-only-modify", "modify", entry: page | 5, error: 3, "a read-modify-write of a read-only page") {
      $0.system.cr0 |= 1 << 16
    },
    fault(
      "read-only-user-without-wp", "write", entry: page | 5, error: 3,
      "a store to a read-only page at CPL 3, CR0.WP = 0", levels: [.longUser]),
    fault("no-execute", "fetch", entry: page | 7 | notExecutable, error: 0x11, cr2: page, "a jump to an NX page"),
    fault("reserved", "read", entry: page | 7 | 1 << 51, error: 9, "a reserved address bit in the entry"),
    fault("reserved-write", "write", entry: page | 7 | 1 << 51, error: 0xb, "the same by a store"),
    fault("reserved-nx", "read", entry: page | 7 | notExecutable, error: 9, "the NX bit while EFER.NXE = 0") {
      $0.system.efer &= ~(1 << 11)
    },
    fault(
      "fetch-without-nx", "fetch", entry: 0, error: 0, cr2: page,
      "without EFER.NXE and SMEP a fetch does not set the I/D bit"
    ) { $0.system.efer &= ~(1 << 11) },
    [
      Case("page-fault-crossing", .longUser, "CR2 is the first byte that faults; nothing of the store was done")
        .reporting(Case.userFrame(14, error: 6, cr2: page) + [0, 0])
        .prepared { _, tables in try tables.map(page, to: 0, flags: 0) },
      Case("page-fault-string", .longUser, "the elements before the fault are done, RCX and RDI say how many")
        .reporting(Case.userFrame(14, error: 6, cr2: page) + [3, page])
        .prepared { _, tables in try tables.map(page, to: 0, flags: 0) },
      Case("page-fault-push", .longUser, "PUSH that faults leaves RSP alone")
        .reporting(Case.userFrame(14, error: 6, stack: page + 0x1000, cr2: page + 0xff8) + [page + 0x1000])
        .prepared { _, tables in try tables.map(page, to: 0, flags: 0) },
      Case("page-fault-pop", .longUser, "POP to memory that faults leaves RSP alone")
        .reporting(Case.userFrame(14, error: 6, stack: Layout.userStack - 8, cr2: page) + [0])
        .prepared { _, tables in try tables.map(page, to: 0, flags: 0) },
      Case("page-fault-repair", .long, "once the handler has mapped the page, the instruction runs as if first")
        .reporting([page, 0, 7])
        .accompanied(by: "page_fault_repair_handler")
        .prepared { _, tables in
          try tables.map(page, to: 0, flags: 0)
          try tables.writeLongModeGate(14, offset: Layout.companion)
        },
    ],
  ].flatMap(\.self)
}
