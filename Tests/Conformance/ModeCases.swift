// Changes of mode, and what the modes differ in (Modes.S).

import TrivisorVMM

extension ConformanceSuite {
  private typealias Case = ConformanceCase

  private static func withSegmentBases(_ state: inout MachineState, _ tables: TableWriter) {
    state.system.cr4 |= 1 << 16
  }

  static let modeCases: [ConformanceCase] = [
    [
      Case("modes-all", .real, "real, protected, long, compatibility with 32 and 16 bits, and back to real mode")
        .reporting([0x18, 0x500, 0x1122_3344_5566_7788, 4, 0x1234, 0, 0] + Case.frame16(0x21)),
      Case("modes-unreal", .real, "real mode keeps the limit that protected mode loaded").reporting([
        0x1234_5678, 0x1234_5678,
      ]),
      Case("modes-before-jump", .real, "with PE set, selectors are descriptors even before the far jump")
        .reporting([0x5a5a_5a5a, 1]),
      Case("modes-compatibility", .compatibility, "32-bit code under long mode, with long mode's exception frame")
        .reporting([0x1_0001] + Case.frame(6, cs: 0x18) + [Layout.stack]),
      Case("modes-compatibility-user", .compatibilityUser, "the same at CPL 3", guest: "modes_compatibility")
        .reporting(
          [0x1_0001]
            + Case.frame(
              6, cs: 0x33, stack: Layout.userStack, ss: 0x3b, top: Layout.rsp0) + [Layout.userStack]),
      Case("modes-wrap", .compatibilityUser, "in compatibility mode addresses wrap at 4 GiB").reporting([0x5a]),
      Case("modes-wrap-protected", .protected, "so they do in protected mode", guest: "modes_wrap").reporting([0x5a]),
      Case("modes-refused", .real, "#GP for long mode without PAE").reporting(Case.frame16(13)),
      Case("modes-flat", .long, "64-bit mode knows neither limits nor null selectors").reporting([0x1234, 0x1234]),
      Case("modes-many", .long, "more modes than a translator keeps, and STAC and CLAC among them").reporting([64])
        .prepared { state, tables in
          state.system.cr4 |= 1 << 21
          // SMAP closes user pages.
          for entry in UInt64(0)..<512 { try tables.write(entry << 12 | 3, at: Layout.level1 + 8 * entry) }
        },
      Case("modes-segment-load", .long, "loading FS loads 32 bits of base and clears the rest").reporting([0, 0]),
    ],
    Case.both(
      "modes-segment-bases", "RDFSBASE and its kin",
      results: { _ in [0x11, 0x22, Layout.data, Layout.data] }
    ) { $0.prepared { withSegmentBases(&$0, $1) } },
    Case.both(
      "modes-segment-bases-noncanonical", "#GP(0) for WRFSBASE of what is no address",
      results: { Case.frame(from: $0, 13) }
    ) { $0.prepared { withSegmentBases(&$0, $1) } },
    Case.both(
      "modes-segment-bases-refused", "#UD for RDFSBASE while CR4.FSGSBASE = 0", results: { Case.frame(from: $0, 6) }
    ) { $0 },
  ].flatMap(\.self)
}
