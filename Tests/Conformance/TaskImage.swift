import TrivisorVMM

/// A task-state segment of 32 bits that a case lays out for its guest, at `Layout.data` and by the selector CALL_GATE.
struct TaskImage {
  static let base = Layout.data
  static let selector: UInt16 = 0x88

  var backLink: UInt16 = 0
  var cr3: UInt32 = 0
  var eip = UInt32(Layout.companion)
  var flags: UInt32 = 2
  var eax: UInt32 = 0x1111_1111, esp: UInt32 = 0x1_8000
  var es = Layout.data0, cs = Layout.code32, ss = Layout.data0, ds = Layout.data0, fs: UInt16 = 0, gs: UInt16 = 0
  var localTable: UInt16 = 0
  /// T.
  var traps = false
  /// Of its descriptor: available unless said.
  var attributes: UInt16 = 0x89

  /// - Parameter permissionMap: it allows all ports up to 0x3ff, by a bitmap behind it.
  func write(_ tables: TableWriter, permissionMap: Bool = false) throws {
    func word(_ value: UInt32, _ offset: UInt64) throws {
      try tables.memory.write(value, at: GuestPhysicalAddress(Self.base + offset))
    }
    try word(UInt32(backLink), 0)
    for (offset, value) in [(0x1c, cr3), (0x20, eip), (0x24, flags), (0x28, eax), (0x38, esp)] as [(UInt64, UInt32)] {
      try word(value, offset)
    }
    for (index, selector) in [es, cs, ss, ds, fs, gs, localTable].enumerated() {
      try word(UInt32(selector), 0x48 + 4 * UInt64(index))
    }
    // RSP0 and SS0, for tasks that do not run at CPL 0.
    try word(UInt32(Layout.rsp0), 4)
    try word(UInt32(Layout.data0), 8)
    let (bitmap, size): (UInt64, UInt64) = (0x68, permissionMap ? 0x80 : 0)
    try word((traps ? 1 : 0) | UInt32(bitmap + (permissionMap ? 0 : 0x1000)) << 16, 0x64)
    if permissionMap { try tables.memory.write(UInt8.max, at: GuestPhysicalAddress(Self.base + bitmap + size)) }
    try tables.write(
      TableWriter.descriptor(
        base: UInt32(Self.base), limit: UInt32(bitmap + size) - (permissionMap ? 0 : 1), attributes: attributes),
      at: Layout.gdt + UInt64(Self.selector))
  }

  /// One of 16 bits.
  func write16(_ tables: TableWriter) throws {
    func word(_ value: UInt32, _ offset: UInt64) throws {
      try tables.memory.write(UInt16(truncatingIfNeeded: value), at: GuestPhysicalAddress(Self.base + offset))
    }
    for (offset, value) in [(0xe, eip), (0x10, flags), (0x12, eax), (0x1a, esp)] as [(UInt64, UInt32)] {
      try word(value, offset)
    }
    for (index, selector) in [es, cs, ss, ds, localTable].enumerated() {
      try word(UInt32(selector), 0x22 + 2 * UInt64(index))
    }
    try tables.write(
      TableWriter.descriptor(base: UInt32(Self.base), limit: 0x2b, attributes: attributes & ~8),
      at: Layout.gdt + UInt64(Self.selector))
  }
}
