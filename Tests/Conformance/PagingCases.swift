// Translation of addresses (Paging.S).

import TrivisorVMM

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

  /// A large page that is about to be replaced (see `large_page_dropped`): how its tables come about, where its entry is,
  /// what that becomes, and an address in the page at which nothing else is.
  private struct LargePage {
    let name: String
    let isLong: Bool
    let entry: UInt64
    let before: UInt64
    let after: UInt64
    let elsewhere: UInt64
    let tables: Preparation

    static let twoMebibytes = LargePage(
      name: "2-mebibytes", isLong: true, entry: 0x3_1000, before: large | 7, after: 0x20_0000 | large | 7,
      elsewhere: 0x4010_0000
    ) { _, tables in try tables.write(0x3_1000 | 7, at: Layout.level3 + 8) }

    static let twoMebibytesSplit = LargePage(
      name: "2-mebibytes-split", isLong: true, entry: 0x3_1000, before: large | 7, after: 0x3_2000 | 7,
      elsewhere: 0x4010_0000
    ) { _, tables in
      try tables.write(0x3_1000 | 7, at: Layout.level3 + 8)
      for entry in UInt64(0)..<512 { try tables.write(0x20_0000 + entry << 12 | 7, at: 0x3_2000 + 8 * entry) }
    }

    static let oneGibibyte = LargePage(
      name: "1-gibibyte", isLong: true, entry: Layout.level3 + 8, before: large | 7, after: 0x3_1000 | 7,
      elsewhere: 0x7fff_f000
    ) { _, tables in try tables.write(0x20_0000 | large | 7, at: 0x3_1000) }

    static let physicalAddressExtension = LargePage(
      name: "pae", isLong: false, entry: 0x3_1000, before: large | 7, after: 0x20_0000 | large | 7,
      elsewhere: 0x4010_0000
    ) { state, tables in
      try tables.write(0x3_2001, at: page)
      try tables.write(0x3_1001, at: page + 8)
      try tables.write(large | 7, at: 0x3_2000)
      try tables.write(0x20_0000 | large | 7, at: 0x3_2008)
      state.system.cr4 |= 0x20
    }

    static let fourMebibytes = LargePage(
      name: "4-mebibytes", isLong: false, entry: page + 4 * 256, before: large | 7, after: 0x3_1007,
      elsewhere: 0x403f_f000
    ) { state, tables in
      func write(_ value: UInt32, at address: UInt64) throws {
        try tables.memory.write(value, at: GuestPhysicalAddress(address))
      }
      try write(UInt32(large | 7), at: page)
      for entry in UInt32(0)..<512 { try write(0x20_0000 + entry << 12 | 7, at: 0x3_1000 + 4 * UInt64(entry)) }
      state.system.cr4 |= 0x10
    }

    /// - Parameters:
    ///   - isGlobal: the guest loads CR3 before INVLPG.
    ///   - overridesSMAP: CR4.SMAP and RFLAGS.AC are set.
    func prepare(isGlobal: Bool = false, overridesSMAP: Bool = false) -> Preparation {
      { state, tables in
        try self.tables(&state, tables)
        let globalBit: UInt64 = isGlobal ? 0x100 : 0
        try tables.memory.write(UInt32(before | globalBit), at: GuestPhysicalAddress(entry))
        try tables.write(entry, at: Layout.data)
        try tables.write(after, at: Layout.data + 8)
        try tables.write(elsewhere, at: Layout.data + 16)
        if isGlobal { state.system.cr4 |= 0x80 }
        if overridesSMAP {
          state.system.cr4 |= 1 << 21
          state.general.rflags |= 1 << 18
        }
        if !isLong {
          state.system.cr3 = page
          state.system.cr0 |= 1 << 31
        }
      }
    }
  }

  private static let droppedLargePages: [ConformanceCase] = {
    let before: [UInt64] = [1, 2, 3, 4, 5, 6], after = before.map { $0 + 0x10 }
    let results = before + before + after + after + [7, 8, 0x17, 0x18]
    let pages: [LargePage] = [
      .twoMebibytes, .twoMebibytesSplit, .oneGibibyte, .physicalAddressExtension, .fourMebibytes,
    ]
    var cases: [ConformanceCase] = []
    for page in pages {
      let (mode, suffix) = page.isLong ? (GuestMode.long, "") : (.protected, "_32")
      cases += [
        Case(
          "paging-drops-\(page.name)", mode, "INVLPG drops all of a large page, data and code",
          guest: "paging_large_dropped" + suffix
        ).reporting(results).prepared(page.prepare()),
        Case(
          "paging-drops-\(page.name)-global", mode, "INVLPG drops what a load of CR3 leaves of a large page",
          guest: "paging_large_global" + suffix
        ).reporting(results).prepared(page.prepare(isGlobal: true)),
      ]
    }
    cases.append(
      Case(
        "paging-drops-2-mebibytes-override", .long, "INVLPG drops all of a large page that CR4.SMAP was overridden for",
        guest: "paging_large_dropped"
      ).reporting(results).prepared(LargePage.twoMebibytes.prepare(overridesSMAP: true)))
    return cases
  }()

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
    Case.both("code-alias-large", "code that is stored to through a large page, and by stores over two pages") {
      $0.reporting([1, 2, 3].flatMap { (_: Int) -> [UInt64] in [0x11, 0x22, 0x33, 0x44] }).prepared(middlePages)
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
      Case("paging-controls", .long, "CR0.WP and EFER.NXE, switched while the translations are in use")
        .reporting(
          [3, 2, 1].flatMap { (round: UInt64) -> [UInt64] in
            [round] + Case.frame(14, error: 3, cr2: page) + [round] + Case.frame(14, error: 0x11, cr2: other)
              + Case.frame(14, error: 9, cr2: other) + [round]
          }
        )
        .prepared { state, tables in
          try entry(page | 5, withWriteProtect: false)(&state, tables)
          try tables.map(other, to: other, flags: 1 << 63 | 7)
        },
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
    droppedLargePages,
  ].flatMap(\.self)
}
