// Translation of addresses (Paging.S).

import VMM

extension ConformanceSuite {
  private typealias Case = ConformanceCase
  private typealias Preparation = @Sendable (inout MachineState, TableWriter) throws -> Void

  private static let page: UInt64 = 0x3_0000, other: UInt64 = 0x4_0000
  private static let large: UInt64 = 0x80
  private static let writeProtect: UInt64 = 1 << 16

  /// What the page's entry holds at the start; CR0.WP is set.
  private static func entry(_ value: UInt64, withWriteProtect: Bool = true) -> Preparation {
    { state, tables in
      try tables.write(value, at: Layout.level1 + 8 * (page >> 12))
      if withWriteProtect { state.system.cr0 |= writeProtect }
    }
  }

  /// The second GiB of the space is the first of memory.
  private static let middlePages: Preparation = { _, tables in
    try tables.write(0x3_1000 | 7, at: Layout.level3 + 8)
    for entry in UInt64(0)..<512 { try tables.write(entry << 21 | large | 7, at: 0x3_1000 + 8 * entry) }
  }

  /// 32-bit paging: see the guest.
  private static let legacyTables: Preparation = { _, tables in
    func write(_ value: UInt32, at address: UInt64) throws {
      try tables.memory.write(value, at: GuestPhysicalAddress(address))
    }
    try write(UInt32(large | 7), at: page)
    try write(0x3_1007, at: page + 4)
    try write(UInt32(large | 7), at: page + 8)
    try write(UInt32(Layout.data | 7), at: 0x3_1000 + (Layout.data >> 10))
    try write(5, at: 0x3_1000)
  }

  private static let extendedTables: Preparation = { _, tables in
    try tables.write(0x3_1001, at: page)
    try tables.write(large | 7, at: 0x3_1000)
    try tables.write(0x3_2007, at: 0x3_1008)
    try tables.write(large | 7 | 1 << 63, at: 0x3_1010)
    try tables.write(Layout.data | 7, at: 0x3_2000 + (Layout.data >> 9))
  }

  static let pagingCases: [ConformanceCase] = [
    Case.both("paging-small", "a page of 4 KiB somewhere else") {
      $0.reporting([0x1234]).prepared(entry(other | 7))
    },
    [GuestMode.long, .longUser].flatMap { mode -> [ConformanceCase] in
      let suffix = mode == .longUser ? "-user" : ""
      return [
        Case("paging-2-mebibytes" + suffix, mode, "pages of 2 MiB", guest: "paging_large")
          .reporting([0x1234, 0x5678]).prepared(middlePages),
        Case("paging-1-gibibyte" + suffix, mode, "a page of 1 GiB", guest: "paging_large")
          .reporting([0x1234, 0x5678])
          .prepared { _, tables in try tables.write(large | 7, at: Layout.level3 + 8) },
      ]
    },
    Case.both("paging-accessed", "A is set at every level by a load, D in the last by a store") {
      $0.reporting([0x20, 0x60, 0x20, 0x20, 0x20, 0])
    },
    Case.both(
      "paging-dirty-refused", "a store that is refused does not set D",
      results: { Case.frame(from: $0, 14, error: $0 ? 7 : 3, cr2: page) + [0] }
    ) { $0.prepared(entry(page | 5)) },
    Case.both(
      "paging-present", "making an entry present needs no INVLPG",
      results: { Case.frame(from: $0, 14, error: $0 ? 4 : 0, cr2: page) + [3] }
    ) { $0.prepared(entry(0)) },
    Case.both(
      "paging-granted", "granting a right needs none either",
      results: { Case.frame(from: $0, 14, error: $0 ? 7 : 3, cr2: page) + [5] }
    ) { $0.prepared(entry(page | 5)) },
    [
      Case("paging-upper-half", .long, "an address of the upper half").reporting([0x1234])
        .prepared { _, tables in try tables.write(Layout.level3 | 7, at: Layout.level4 + 8 * 256) },
      Case("paging-dirty-again", .long, "A and D are set again after they were cleared").reporting([0x20, 0x60]),
      Case("paging-invalidate", .long, "INVLPG drops a page's translation").reporting([1, 2]),
      Case("paging-reload", .long, "loading CR3 drops translations, changing CR4.PGE the global ones too")
        .reporting([1, 2, 2, 1]),
      Case("paging-write-protect", .long, "CR0.WP decides whether CPL 0 writes to read-only pages")
        .reporting([5] + Case.frame(14, error: 3, cr2: page) + [5])
        .prepared(entry(page | 5, withWriteProtect: false)),
      Case("paging-smep", .long, "CR4.SMEP: CPL 0 does not run user pages")
        .reporting([1] + Case.frame(14, error: 0x11, cr2: page) + [2]),
      Case("paging-onto-itself", .long, "a page table that maps itself, changed through that mapping")
        .reporting(
          [1, 2, 3].flatMap { (_: Int) -> [UInt64] in
            [0x1111_0000, 0x2222_0000, 0x3333_0000] + Case.frame(14, error: 3, cr2: 0x6_0100) + [0x2_0007]
          }),
      Case("paging-flips", .long, "rights that are taken and given, and another page of code behind an address")
        .reporting(
          [4, 3, 2, 1].flatMap { (round: UInt64) -> [UInt64] in
            Case.frame(14, error: 3, cr2: 0x2_0000) + [round] + Case.frame(14, cr2: 0x2_0000) + [round, 2 * round]
              + [0x55, 0x11, 0x22, 0x22, 0x11, 0x11]
          }),
      Case("paging-smap", .long, "CR4.SMAP: CPL 0 does not touch user pages unless RFLAGS.AC")
        .reporting(Case.frame(14, error: 1, cr2: page) + [7] + Case.frame(14, error: 3, cr2: page)),
      Case("paging-legacy", .protected, "32-bit paging with pages of 4 KiB and 4 MiB")
        .reporting(
          [0x1234, 0x5678, 0x20, 0x60] + Case.frame32(14, cr2: 0xc0_0000) + Case.frame32(14, error: 3, cr2: 0x40_0000)
        )
        .prepared(legacyTables),
      Case("paging-pae", .protected, "PAE paging with pages of 4 KiB and 2 MiB, and NX")
        .reporting(
          [0x1234, 0x5678] + Case.frame32(14, cr2: 0x60_0000) + Case.frame32(14, error: 0x11, cr2: 0x42_0000)
        )
        .prepared(extendedTables),
    ],
  ].flatMap(\.self)
}
