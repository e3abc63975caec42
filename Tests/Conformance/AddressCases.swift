// Code that runs at several linear addresses (Addresses.S).

import TrivisorVMM

extension ConformanceSuite {
  private typealias Case = ConformanceCase

  private static let view: UInt64 = 0x4000_0000, alias = view + 0x8000

  /// Two spaces that share a page at two addresses, and differ in what is behind each of them.
  private static let spaces: @Sendable (inout MachineState, TableWriter) throws -> Void = { _, tables in
    let open: UInt64 = 7
    let shared: UInt64 = 0x10_0000, first: UInt64 = 0x10_2000, second: UInt64 = 0x10_4000
    try tables.write(0x3_1000 | open, at: Layout.level3 + 8)
    try tables.write(0x3_2000 | open, at: 0x3_1000)
    try tables.write(0x3_4000 | open, at: 0x3_3000)
    try tables.write(Layout.level2 | open, at: 0x3_4000)
    try tables.write(0x3_5000 | open, at: 0x3_4008)
    try tables.write(Layout.deviceLevel2 | open, at: 0x3_4018)
    try tables.write(0x3_6000 | open, at: 0x3_5000)
    for (table, behind) in [(0x3_2000 as UInt64, [first, second]), (0x3_6000, [second, first])] {
      for (position, page) in [(0 as UInt64, shared), (1, behind[0]), (8, shared), (9, behind[1])] {
        try tables.write(page | open, at: table + 8 * position)
      }
    }
  }

  /// What a run at an address reports: where it is, three times, and what is behind it.
  private static func run(
    at address: UInt64, _ function: UInt64, _ data: UInt64, _ straddling: UInt64, own: UInt64 = 0x77
  ) -> [UInt64] {
    [address + 7, address + 12, address + 34, function, data, straddling, own, function]
  }

  /// In both spaces, at both addresses.
  private static func round(first: [UInt64] = [0x100, 0x101, 0x102], own: UInt64 = 0x77) -> [UInt64] {
    let second: [UInt64] = [0x200, 0x201, 0x202]
    return [(view, first), (alias, second), (view, second), (alias, first)].flatMap { address, values in
      run(at: address, values[0], values[1], values[2], own: own)
    }
  }

  static let addressCases: [ConformanceCase] = [
    Case("address-views", .long, "code of CPL 3 at two addresses in two spaces, with other pages behind it")
      .reporting(
        round() + round() + run(at: view, 0x200, 0x201, 0x202) + run(at: view, 0x200, 0x201, 0x202) + round()
          + round(first: [0x300, 0x101, 0x102]) + round(first: [0x300, 0x101, 0x302], own: 0x88)
      )
      .prepared(spaces),
    Case(
      "address-straddling", .long, "an instruction over the end of a page that is mapped twice, one behind the other"
    )
    .reporting([0, 1, 2].flatMap { (_: Int) -> [UInt64] in [view + 0x1012, view + 0x1013] })
    .prepared { state, tables in
      try spaces(&state, tables)
      try tables.write(0x10_0007, at: 0x3_2008)
    },
  ]
}
