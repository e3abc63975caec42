// Protection keys of user pages (ProtectionKeys.S).

import TrivisorVMM
import TrivisorX86

extension ConformanceSuite {
  private typealias Case = ConformanceCase
  private typealias Preparation = @Sendable (inout MachineState, TableWriter) throws -> Void

  private static let page: UInt64 = 0x3_0000, largePage: UInt64 = 0x20_0000
  private static let firstKey: UInt64 = 1 << 59

  /// CR4.PKE and CR0.WP are set, and the page's entry has key 1 and these rights.
  private static func keyed(_ rights: UInt64 = 7) -> Preparation {
    { state, tables in
      state.system.cr4 |= CR4.protectionKeys.rawValue
      state.system.cr0 |= CR0.writeProtect.rawValue
      try tables.write(page | rights | firstKey, at: Layout.level1 + 8 * (page >> 12))
    }
  }

  private static func error(_ isUser: Bool, _ bits: PageFaultError) -> UInt64 {
    UInt64(bits.union(isUser ? .user : []).rawValue)
  }

  /// Two loads (the second by a repeated instruction) and a store that AD forbids, two stores that WD forbids.
  private static func rights(_ isUser: Bool) -> [UInt64] {
    let errors: [PageFaultError] = [
      [.present, .protectionKey], [.present, .protectionKey, .write], [.present, .protectionKey],
      [.present, .protectionKey, .write], [.present, .protectionKey, .write],
    ]
    return errors.flatMap { Case.frame(from: isUser, 14, error: error(isUser, $0), cr2: page) } + [12]
  }

  static let protectionKeyCases: [ConformanceCase] = [
    [
      Case("keys-switch", .long, "RDPKRU and WRPKRU are #UD without CR4.PKE, which CPUID shows")
        .reporting([0] + Case.frame(6) + Case.frame(6) + [1, 0])
    ],
    Case.both(
      "keys-instructions", "RDPKRU and WRPKRU; #GP(0) for ECX and EDX that are not 0",
      results: { isUser in
        [0, 0, 0x5555_5554, 0, 0x5555_5554] + (0..<3).flatMap { _ in Case.frame(from: isUser, 13) }
      }
    ) { $0.prepared(keyed()) },
    Case.both("keys-rights", "what PKRU takes and gives, it does at once", results: rights) { $0.prepared(keyed()) },
    [
      Case(
        "keys-rights-compatibility-user", .compatibilityUser, "the same in 32-bit code of long mode",
        guest: "keys_rights_32"
      ).reporting(
        [0x25, 0x27, 0x25, 0x27, 0x27].flatMap {
          Case.frame(14, error: $0, cs: 0x33, stack: Layout.userStack, ss: 0x3b, top: Layout.rsp0, cr2: page)
        } + [12]
      ).prepared(keyed()),
      Case("keys-write-protect", .long, "CPL 0 heeds WD where CR0.WP is set, and AD always")
        .reporting(Case.frame(14, error: 0x23, cr2: page) + Case.frame(14, error: 0x23, cr2: page) + [8])
        .prepared(keyed()),
      Case("keys-supervisor-page", .long, "pages that are not the user's have no keys").reporting([5])
        .prepared(keyed(3)),
      Case("keys-toggled", .long, "CR4.PKE switches all keys on and off")
        .reporting(Case.frame(14, error: 0x21, cr2: page) + [5]).prepared(keyed()),
      Case("keys-saved", .long, "PKRU is a component of XSAVE and XRSTOR")
        .reporting([8, 0, 8, 0x28, 0x200, 4] + Case.frame(14, error: 0x21, cr2: page) + [4, 0, 5]).prepared(keyed()),
    ],
    Case.both(
      "keys-fetch", "keys forbid no fetch",
      results: { Case.frame(from: $0, 14, error: error($0, [.present, .protectionKey]), cr2: page) }
    ) { $0.prepared(keyed()) },
    Case.both(
      "keys-large", "a page of 2 MiB has one key",
      results: { isUser in
        [largePage, largePage + 0x12_3000].flatMap {
          Case.frame(from: isUser, 14, error: error(isUser, [.present, .protectionKey]), cr2: $0)
        }
      }
    ) {
      $0.prepared { state, tables in
        try keyed()(&state, tables)
        try tables.write(largePage | 0x87 | firstKey, at: Layout.level2 + 8)
      }
    },
    Case.both(
      "keys-reasons", "a key's refusal is told beside others, but of no page that is absent or malformed",
      results: { isUser in
        Case.frame(from: isUser, 14, error: error(isUser, [.present, .write, .protectionKey]), cr2: page)
          + Case.frame(from: isUser, 14, error: error(isUser, .write), cr2: page + 0x1000)
          + Case.frame(from: isUser, 14, error: error(isUser, [.present, .reserved]), cr2: page + 0x2000)
      }
    ) {
      $0.prepared { state, tables in
        try keyed(5)(&state, tables)
        let entry = Layout.level1 + 8 * (page >> 12)
        try tables.write(page + 0x1000 | 6 | firstKey, at: entry + 8)
        try tables.write(page + 0x2000 | 7 | firstKey | 1 << 50, at: entry + 16)
      }
    },
  ].flatMap(\.self)
}
