// Address spaces with numbers, which the processor remembers while it is in another one (Contexts.S).

import TrivisorVMM

extension ConformanceSuite {
  private typealias Case = ConformanceCase

  /// The large page of the second GiB is the first of memory.
  private static let largePage: @Sendable (inout MachineState, TableWriter) throws -> Void = { _, tables in
    try tables.write(0x3_1000 | 7, at: Layout.level3 + 8)
    try tables.write(0x87, at: 0x3_1000)
  }

  static let contextCases: [ConformanceCase] = [
    Case("contexts-dropped", .long, "INVPCID, CR3 without bit 63 and CR4 drop what is kept of another address space")
      .ifAnnounced(twice([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 11])),
    Case("contexts-code", .long, "stores of one address space change the code of another")
      .ifAnnounced([1, 0x55, 0x55, 0x66, 0x77]),
    Case("contexts-global", .long, "INVLPG drops a global page in every address space").ifAnnounced(
      twice([1, 1, 2, 2])),
    Case("contexts-large", .long, "INVLPG drops all of a large page that was known before the processor was elsewhere")
      .ifAnnounced([0x11, 0x12, 0x21, 0x22]).prepared(largePage),
    Case("contexts-straddling", .long, "INVLPG drops code on two pages of which one is global, in every address space")
      .ifAnnounced([0x11, 0x22, 0x11, 0x1_0011]),
    Case("contexts-off", .long, "#GP(0) for bit 63 of CR3 while CR4.PCIDE = 0").reporting(Case.frame(13)),
    Case("contexts-many", .long, "twenty address spaces see a mapping change").ifAnnounced([20, 60 | 1 << 30]),
  ]

  /// Read, and run.
  private static func twice(_ values: [UInt64]) -> [UInt64] { values.flatMap { [$0, $0] } }
}
