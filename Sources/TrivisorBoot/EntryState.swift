// The processor states in which images expect to begin. Only registers: hidden segment parts are loaded directly, so no
// descriptor table is needed until the guest loads a segment register itself.

import TrivisorVMM

/// The general and system registers at a guest's first instruction.
struct EntryState {
  var general: GeneralRegisters
  var system: SystemRegisters

  private enum ControlBits {
    static let protectionEnable: UInt64 = 1 << 0
    static let extensionType: UInt64 = 1 << 4
    static let paging: UInt64 = 1 << 31
    static let physicalAddressExtension: UInt64 = 1 << 5
    static let longModeEnable: UInt64 = 1 << 8
    static let longModeActive: UInt64 = 1 << 10
  }

  private init(entry: UInt64) {
    general = GeneralRegisters()
    general.rdx = 0
    general.rip = entry
    system = SystemRegisters()
    system.cr0 = ControlBits.extensionType
  }

  /// Real mode, as a PC's firmware enters a boot sector: interrupts off, vector table at 0.
  /// - Parameter entry: a linear address below 1 MiB.
  static func realMode(entry: UInt64, stackTop: UInt16) -> EntryState {
    // Boot sectors expect 0:7c00, and not 7c0:0, so the segment stays 0 as far as an offset reaches.
    let selector = entry < 0x1_0000 ? 0 : UInt16(truncatingIfNeeded: (entry >> 4) & 0xf000)
    var state = EntryState(entry: entry &- UInt64(selector) << 4)
    state.general.rsp = UInt64(stackTop)
    state.system.cs = .real(selector, code: true)
    state.system.idt = DescriptorTable(base: 0, limit: 0x3ff)
    return state
  }

  /// 32-bit protected mode without paging: flat segments, interrupts off, no usable descriptor tables.
  static func protectedMode(
    entry: UInt32, code: UInt16 = BootDescriptors.code, data: UInt16 = BootDescriptors.data
  ) -> EntryState {
    var state = EntryState(entry: UInt64(entry))
    state.system.cr0 |= ControlBits.protectionEnable
    state.setSegments(code: .flatCode32(selector: code), data: .flatData(selector: data))
    return state
  }

  /// 64-bit mode on identity page tables: flat segments, interrupts off.
  static func longMode(entry: UInt64, pageTables: UInt64, descriptors: DescriptorTable) -> EntryState {
    var state = EntryState(entry: entry)
    state.system.cr0 |= ControlBits.protectionEnable | ControlBits.paging
    state.system.cr3 = pageTables
    state.system.cr4 = ControlBits.physicalAddressExtension
    state.system.efer = ControlBits.longModeEnable | ControlBits.longModeActive
    state.setSegments(
      code: .flatCode64(selector: BootDescriptors.code), data: .flatData(selector: BootDescriptors.data))
    state.system.gdt = descriptors
    return state
  }

  private mutating func setSegments(code: Segment, data: Segment) {
    system.cs = code
    system.ds = data
    system.es = data
    system.fs = data
    system.gs = data
    system.ss = data
    system.gdt = DescriptorTable(base: 0, limit: 0)
    system.idt = DescriptorTable(base: 0, limit: 0)
  }
}

/// A descriptor table that fits the first segments, for guests that load a segment register before they have a table
/// of their own. The selectors are those of Linux's boot protocol (`__BOOT_CS`, `__BOOT_DS`).
enum BootDescriptors {
  static let code: UInt16 = 0x10
  static let data: UInt16 = 0x18
  private static let code32: UInt64 = 0x00cf_9b00_0000_ffff
  private static let code64: UInt64 = 0x00af_9b00_0000_ffff
  private static let data32: UInt64 = 0x00cf_9300_0000_ffff

  /// Places and fills the table.
  static func store(_ layout: inout GuestLayout, longMode: Bool) throws(BootFailure) -> DescriptorTable {
    let entries: [UInt64] = [0, 0, longMode ? code64 : code32, data32]
    let size = UInt64(entries.count * 8)
    let base = try layout.placeStructure("the descriptor table", size: size, alignment: 64)
    try layout.store(entries, at: base, as: "the descriptor table")
    return DescriptorTable(base: base, limit: UInt16(truncatingIfNeeded: size - 1))
  }
}

/// Page tables that map the low 4 GiB to themselves with 2 MiB pages, devices included (AMD64 APM vol. 2, 5.3).
enum IdentityPageTables {
  private static let present: UInt64 = 1 << 0
  private static let writable: UInt64 = 1 << 1
  private static let large: UInt64 = 1 << 7
  private static let tableSize: UInt64 = 4096
  private static let entriesPerTable = 512
  private static let gigabytes: UInt64 = 4
  /// The entries of all page directories, which do not depend on where these lie.
  private static let pages = (0..<(gigabytes * UInt64(entriesPerTable))).map { $0 << 21 | present | writable | large }

  /// Places and fills them.
  /// - Returns: CR3.
  static func store(_ layout: inout GuestLayout) throws(BootFailure) -> UInt64 {
    let part = "the first page tables"
    let base = try layout.placeStructure(part, size: (2 + gigabytes) * tableSize)
    var upper = [UInt64](repeating: 0, count: 2 * entriesPerTable)
    upper[0] = base &+ tableSize | present | writable
    for gigabyte in 0..<gigabytes {
      upper[entriesPerTable + Int(gigabyte)] = base &+ (2 + gigabyte) &* tableSize | present | writable
    }
    try layout.store(upper, at: base, as: part)
    try layout.store(pages, at: base &+ 2 &* tableSize, as: part)
    return base
  }
}
