// The memory map of every guest: the same numbers as in guest.h, and the tables behind them.

import TrivisorVMM

/// Addresses and selectors that guests and cases share.
enum Layout {
  static let level4: UInt64 = 0x1000, level3: UInt64 = 0x2000, level2: UInt64 = 0x3000, level1: UInt64 = 0x4000
  static let deviceLevel2: UInt64 = 0x5000
  static let gdt: UInt64 = 0x6000, tss: UInt64 = 0x6800, ldt: UInt64 = 0x6c00, idt: UInt64 = 0x7000
  static let guest: UInt64 = 0x8000, companion: UInt64 = 0x9000, handlers: UInt64 = 0xc000
  static let stack: UInt64 = 0xf000, rsp0: UInt64 = 0x12000, ist1: UInt64 = 0x13000, userStack: UInt64 = 0x14000
  static let data: UInt64 = 0x20000
  static let device: UInt64 = 0xd000_0000
  static let userPage: UInt64 = 0x41_0000
  static let memorySize: UInt64 = 0x40_0000

  static let code64: UInt16 = 0x08, data0: UInt16 = 0x10, code32: UInt16 = 0x18, code16: UInt16 = 0x20
  static let data16: UInt16 = 0x28, userCode32: UInt16 = 0x33, userData: UInt16 = 0x3b, userCode64: UInt16 = 0x43
  static let ldtSelector: UInt16 = 0x68, tssSelector: UInt16 = 0x78
  static let gdtLimit: UInt16 = 0xbf
  static let tssLimit: UInt32 = 0x67
}

/// Writes tables into guest memory.
struct TableWriter {
  let memory: GuestMemory

  /// An 8-byte descriptor: `attributes` as in `Segment`, the limit in bytes.
  static func descriptor(base: UInt32, limit: UInt32, attributes: UInt16) -> UInt64 {
    let granular = attributes & 0x8000 != 0
    let limit = UInt64(granular ? limit >> 12 : limit)
    var value = limit & 0xffff | (limit >> 16 & 0xf) << 48
    value |= UInt64(base & 0xff_ffff) << 16 | UInt64(base >> 24) << 56
    value |= UInt64(attributes & 0xff) << 40 | UInt64(attributes >> 12) << 52
    return value
  }

  func write(_ value: UInt64, at address: UInt64) throws {
    try memory.write(value, at: GuestPhysicalAddress(address))
  }

  /// The descriptor table that guest.h names the selectors of.
  func writeDescriptors() throws {
    let flat: UInt32 = .max
    var entries: [UInt64] = [
      0,
      Self.descriptor(base: 0, limit: flat, attributes: 0xa09b),  // CODE64
      Self.descriptor(base: 0, limit: flat, attributes: 0xc093),  // DATA0
      Self.descriptor(base: 0, limit: flat, attributes: 0xc09b),  // CODE32
      Self.descriptor(base: 0, limit: 0xffff, attributes: 0x009b),  // CODE16
      Self.descriptor(base: 0, limit: 0xffff, attributes: 0x0093),  // DATA16
      Self.descriptor(base: 0, limit: flat, attributes: 0xc0fb),  // USER_CODE32
      Self.descriptor(base: 0, limit: flat, attributes: 0xc0f3),  // USER_DATA
      Self.descriptor(base: 0, limit: flat, attributes: 0xa0fb),  // USER_CODE64
      Self.descriptor(base: 0, limit: 0xfff, attributes: 0x4097),  // EXPAND_DOWN: valid from 0x1000
      Self.descriptor(base: 0, limit: flat, attributes: 0xc013),  // NOT_PRESENT
      Self.descriptor(base: 0, limit: flat, attributes: 0xc091),  // READ_ONLY
      Self.descriptor(base: 0, limit: flat, attributes: 0xc09f),  // CONFORMING32
    ]
    // LDT and TSS take two entries each in long mode; their places are kept in protected mode.
    entries += [Self.descriptor(base: UInt32(Layout.ldt), limit: 0xff, attributes: 0x82), 0]
    entries += [Self.descriptor(base: UInt32(Layout.tss), limit: Layout.tssLimit, attributes: 0x8b), 0]
    entries += [0, 0]  // CALL_GATE: left to the case
    entries += [
      Self.descriptor(base: 0, limit: 0xfff, attributes: 0x4093),  // LIMITED
      Self.descriptor(base: 0, limit: 0xffff, attributes: 0x00fb),  // USER_CODE16
      Self.descriptor(base: 0, limit: flat, attributes: 0xc099),  // EXECUTE_ONLY
      Self.descriptor(base: 0, limit: flat, attributes: 0xa01b),  // NOT_PRESENT_CODE
    ]
    for (position, entry) in entries.enumerated() { try write(entry, at: Layout.gdt + 8 * UInt64(position)) }
  }

  /// Identity: 4 KiB pages for the first 2 MiB, 2 MiB pages for the rest of the first and for the fourth GiB. All of it
  /// writable and open to user code; accessed and dirty are left to the processor.
  func writeLongModePages() throws {
    let open: UInt64 = 7
    try write(Layout.level3 | open, at: Layout.level4)
    try write(Layout.level2 | open, at: Layout.level3)
    try write(Layout.deviceLevel2 | open, at: Layout.level3 + 24)
    try write(Layout.level1 | open, at: Layout.level2)
    for entry in UInt64(1)..<512 { try write(entry << 21 | 0x80 | open, at: Layout.level2 + 8 * entry) }
    for entry in UInt64(0)..<512 { try write(entry << 12 | open, at: Layout.level1 + 8 * entry) }
    for entry in UInt64(0)..<512 {
      try write(0xc000_0000 + entry << 21 | 0x80 | open, at: Layout.deviceLevel2 + 8 * entry)
    }
  }

  /// Changes the entry of one of the first 512 pages.
  func map(_ linear: UInt64, to physical: UInt64, flags: UInt64) throws {
    try write(physical | flags, at: Layout.level1 + 8 * (linear >> 12))
  }

  /// Every vector's stub; #BP and #OF may be called from CPL 3, the rest not.
  func writeLongModeGates() throws {
    for vector in UInt64(0)..<112 { try writeLongModeGate(vector) }
  }

  /// One gate of the long-mode IDT.
  func writeLongModeGate(
    _ vector: UInt64, offset: UInt64? = nil, selector: UInt16 = Layout.code64, attributes: UInt64? = nil,
    stackTable: UInt64 = 0
  ) throws {
    let offset = offset ?? Layout.handlers + 16 * vector
    let attributes = attributes ?? (vector == 3 || vector == 4 ? 0xee : 0x8e)
    let low =
      offset & 0xffff | UInt64(selector) << 16 | stackTable << 32 | attributes << 40 | (offset >> 16 & 0xffff) << 48
    try write(low, at: Layout.idt + 16 * vector)
    try write(offset >> 32, at: Layout.idt + 16 * vector + 8)
  }

  /// Every vector's stub, as 32-bit interrupt gates.
  func writeProtectedModeGates() throws {
    for vector in UInt64(0)..<112 {
      let offset = Layout.handlers + 16 * vector
      let attributes: UInt64 = vector == 3 || vector == 4 ? 0xee : 0x8e
      let gate = offset & 0xffff | UInt64(Layout.code32) << 16 | attributes << 40 | (offset >> 16 & 0xffff) << 48
      try write(gate, at: Layout.idt + 8 * vector)
    }
  }

  /// Real mode's vectors at 0.
  func writeRealModeVectors() throws {
    for vector in UInt32(0)..<112 {
      try memory.write(UInt32(Layout.handlers) + 16 * vector, at: GuestPhysicalAddress(UInt64(4 * vector)))
    }
  }

  /// RSP0 and IST1 (64-bit), or ESP0 and SS0 (32-bit); no I/O permission bitmap.
  func writeTaskState(isLong: Bool) throws {
    if isLong {
      try write(Layout.rsp0, at: Layout.tss + 4)
      try write(Layout.ist1, at: Layout.tss + 0x24)
    } else {
      try memory.write(UInt32(Layout.rsp0), at: GuestPhysicalAddress(Layout.tss + 4))
      try memory.write(UInt32(Layout.data0), at: GuestPhysicalAddress(Layout.tss + 8))
    }
    try memory.write(UInt16(Layout.tssLimit + 1), at: GuestPhysicalAddress(Layout.tss + 0x66))
  }
}
