// A domain's memory: whose each frame is and what it is used for, and what the domain's kernel has at an address.

import TrivisorBoot
import TrivisorVMM

/// Frames, page tables and the machine-to-physical table of a domain. Used with the domain's lock held.
final class DomainMemory {
  /// All of it, the hypervisor's frames included.
  let guest: GuestMemory
  let layout: SharedLayout
  var tables: PageTables
  var machineTable: MachineToPhysicalTable
  /// Whoever is to be told what of the page tables is no longer true.
  weak var translations: (any TranslationKeeper)?

  init(_ guest: GuestMemory, _ layout: SharedLayout, _ tables: PageTables) {
    self.guest = guest
    self.layout = layout
    self.tables = tables
    machineTable = MachineToPhysicalTable(guest, tables.frames, layout)
  }

  var frames: MachineFrames { tables.frames }

  /// What the page tables no longer say is made unreachable. Before a frame becomes a page table, and before guest code
  /// goes on.
  func removeStaleTranslations() {
    if !tables.stale.isEmpty {
      translations?.remove(tables.stale)
      tables.stale.removeAll()
    }
    for root in tables.releasedRoots { translations?.forget(root: root) }
    tables.releasedRoots = []
  }

  /// The model-specific register by which a page of hypercalls is asked for: bits 0 to 11 are the page's number, of which there
  /// is one.
  func writeHypercallPage(_ value: UInt64) -> Bool {
    let frame = value >> 12
    guard value & 4095 == 0, frames.isOwned(frame), !frames.isHypervisors(frame), tables.isWritable(frame),
      let page = frames.bytes(frame)
    else { return false }
    XenHypercallPage.bytes(is64Bit: layout == .bits64).withUnsafeBytes { code in
      if let start = code.baseAddress { page.copyMemory(from: start, byteCount: code.count) }
      frames.didStore(at: page, count: code.count)
    }
    return true
  }

  func change(_ table: UInt64, _ position: UInt64, to value: UInt64) throws(XenError) {
    // What a page holds is checked when it becomes a table: nobody may write to it any more by then.
    if tables.use(table) != .table1 { removeStaleTranslations() }
    try tables.update(table: table, position: position, to: value)
  }

  /// As above, or an ordinary store where the frame is no page table.
  func changeOrStore(_ frame: UInt64, _ position: UInt64, to value: UInt64) throws(XenError) {
    if tables.use(frame).level != nil { return try change(frame, position, to: value) }
    guard tables.isWritable(frame), let entry = frames.entry(frame, position) else { throw .invalid }
    entry.pointee = value
    frames.didStore(at: entry)
  }

  /// Whether two roots say the same of all addresses of the upper half.
  public func haveSameUpperHalf(_ first: UInt64, _ second: UInt64) -> Bool {
    guard tables.levels == 4, let one = frames.entry(first, 256), let other = frames.entry(second, 256),
      tables.use(first).level == 4, tables.use(second).level == 4
    else { return false }
    // Accessed bits are the processor's.
    return (0..<256).allSatisfy { (one[$0] ^ other[$0]) & ~PageTables.accessed == 0 }
  }

  /// Makes a store of so many bytes into a last-level page table, all of one entry: an update, checked as one.
  /// - Throws: `XenError`; the entry is as it was then.
  func storeInTable(_ value: UInt64, size: Int, at machineAddress: UInt64) throws(XenError) {
    let (frame, position) = (machineAddress >> 12, machineAddress >> 3 & 511)
    let shift = machineAddress & 7 * 8
    guard tables.use(frame) == .table1, size > 0, shift + UInt64(size) * 8 <= 64,
      let entry = frames.entry(frame, position)
    else { throw .invalid }
    let mask = (UInt64.max >> UInt64(64 - 8 * size)) << shift
    try change(frame, position, to: entry.pointee & ~mask | value << shift & mask)
    removeStaleTranslations()
  }

  // MARK: As its kernel sees it

  /// Reads the guest's memory through its kernel's page tables.
  func read(_ address: UInt64, count: Int, root: UInt64) throws(XenError) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(count)
    var position = address
    while bytes.count < count {
      guard let leaf = tables.leaf(position, root: root), leaf.isPresent,
        let page = frames.bytes(PageTables.frame(leaf.entry))
      else { throw .badAddress }
      let offset = Int(position & 4095)
      let part = min(4096 - offset, count - bytes.count)
      bytes += UnsafeRawBufferPointer(start: page + offset, count: part)
      position &+= UInt64(part)
    }
    return bytes
  }

  /// An integer, least significant byte first.
  func read<Value: FixedWidthInteger & BitwiseCopyable>(
    _ type: Value.Type, _ address: UInt64, root: UInt64
  ) throws(XenError) -> Value {
    let size = MemoryLayout<Value>.size
    if Int(address & 4095) + size <= 4096 { return try bytes(address, root: root).loadUnaligned(as: Value.self) }
    var value: Value = 0
    for position in 0..<size {
      let byte = try bytes(address &+ UInt64(position), root: root).load(as: UInt8.self)
      value |= Value(truncatingIfNeeded: byte) << Value(truncatingIfNeeded: 8 * position)
    }
    return value
  }

  /// Where a byte that can be read is, and what follows it in its page.
  private func bytes(_ address: UInt64, root: UInt64) throws(XenError) -> UnsafeMutableRawPointer {
    guard let leaf = tables.leaf(address, root: root), leaf.isPresent,
      let page = frames.bytes(PageTables.frame(leaf.entry))
    else { throw .badAddress }
    return page + Int(address & 4095)
  }

  /// The same of one that can be written; the page tables say that it was.
  private func writableBytes(_ address: UInt64, root: UInt64) throws(XenError) -> UnsafeMutableRawPointer {
    guard let leaf = tables.leaf(address, root: root), leaf.isPresent, leaf.isWritable,
      let page = frames.bytes(PageTables.frame(leaf.entry))
    else { throw .badAddress }
    frames.entry(leaf.table, leaf.position)?.pointee |= PageTables.accessed | PageTables.dirty
    return page + Int(address & 4095)
  }

  /// Writes to the guest's memory as its own kernel could, and says so in the page tables.
  func write(_ bytes: [UInt8], to address: UInt64, root: UInt64) throws(XenError) {
    var done = 0
    while done < bytes.count {
      let position = address &+ UInt64(done)
      guard let leaf = tables.leaf(position, root: root), leaf.isPresent, leaf.isWritable,
        let page = frames.bytes(PageTables.frame(leaf.entry))
      else { throw .badAddress }
      frames.entry(leaf.table, leaf.position)?.pointee |= PageTables.accessed | PageTables.dirty
      let offset = Int(position & 4095)
      let part = min(4096 - offset, bytes.count - done)
      bytes[done..<(done + part)].withUnsafeBytes { source in
        if let start = source.baseAddress { (page + offset).copyMemory(from: start, byteCount: part) }
        frames.didStore(at: page + offset, count: part)
      }
      done += part
    }
  }

  func write<Value: FixedWidthInteger & BitwiseCopyable>(
    _ value: Value, to address: UInt64, root: UInt64
  ) throws(XenError) {
    let size = MemoryLayout<Value>.size
    if Int(address & 4095) + size <= 4096 {
      let place = try writableBytes(address, root: root)
      place.storeBytes(of: value.littleEndian, as: Value.self)
      return frames.didStore(at: place, count: size)
    }
    for position in 0..<size {
      let byte = UInt8(truncatingIfNeeded: value >> Value(truncatingIfNeeded: 8 * position))
      let place = try writableBytes(address &+ UInt64(position), root: root)
      place.storeBytes(of: byte, as: UInt8.self)
      frames.didStore(at: place, count: 1)
    }
  }
}
