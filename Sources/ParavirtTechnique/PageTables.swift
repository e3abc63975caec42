// Direct paging: the guest's own page tables, with machine frames in them, kept safe by counting (Xen's arch/x86/mm.c is
// where the idea comes from).
//
// Each frame has at most one use at a time: page table of one level, or writable. A frame becomes a page table only when
// nothing maps it writable, all its entries are then checked, and as long as it is one, nothing can map it writable; so
// what was checked stays true, and every change comes to `update`, where it is checked, too.
//
//     get(frame, use)   the first reference fixes the use and, for a table, takes references for all that its entries name
//     put(frame)        the last one gives them back
//
// Guest code of a domain can thus reach its own frames only, whatever it writes.

import Boot

/// What page-table entries may say and what frames are used for.
struct PageTables {
  /// What a frame is used for while something refers to it in that way.
  enum Use: UInt8 {
    case none, table1, table2, table3, table4, writable

    /// 1–4 for page tables.
    var level: Int? { (1...4).contains(rawValue) ? Int(rawValue) : nil }

    static func table(_ level: Int) -> Use { Use(rawValue: UInt8(truncatingIfNeeded: level)) ?? .none }
  }

  static let present: UInt64 = 1
  static let writable: UInt64 = 2
  static let accessed: UInt64 = 1 << 5
  static let dirty: UInt64 = 1 << 6
  private static let large: UInt64 = 1 << 7
  static let noExecute: UInt64 = 1 << 63
  private static let addressMask: UInt64 = 0x000f_ffff_ffff_f000

  let frames: MachineFrames
  /// Frames of the hypervisor's that the guest may map, but not use as page tables.
  private let shared: ClosedRange<UInt64>
  private var uses: [Use]
  private var counts: [UInt32]
  private var pinned: [Bool]

  init(_ frames: MachineFrames, shared: ClosedRange<UInt64>) {
    self.frames = frames
    self.shared = shared
    let count = frames.all.count
    uses = Array(repeating: .none, count: count)
    counts = Array(repeating: 0, count: count)
    pinned = Array(repeating: false, count: count)
  }

  static func frame(_ entry: UInt64) -> UInt64 { (entry & addressMask) >> 12 }

  /// What the frame is used for.
  func use(_ frame: UInt64) -> Use { frames.index(frame).map { counts[$0] > 0 ? uses[$0] : .none } ?? .none }

  /// How many references fix the frame's use.
  func referenceCount(_ frame: UInt64) -> UInt32 { frames.index(frame).map { counts[$0] } ?? 0 }

  /// Keeps a table checked until `unpin`, whether something refers to it or not.
  mutating func pin(_ frame: UInt64, level: Int) throws(XenError) {
    guard let index = frames.index(frame), !pinned[index] else { throw .invalid }
    try get(frame, .table(level))
    pinned[index] = true
  }

  mutating func unpin(_ frame: UInt64) throws(XenError) {
    guard let index = frames.index(frame), pinned[index] else { throw .invalid }
    pinned[index] = false
    put(frame)
  }

  /// One more reference of this kind.
  mutating func get(_ frame: UInt64, _ use: Use) throws(XenError) {
    guard let index = frames.index(frame), counts[index] < .max else { throw .invalid }
    guard counts[index] == 0 else {
      guard uses[index] == use else { throw use == .writable ? .invalid : .busy }
      counts[index] += 1
      return
    }
    guard use == .writable || !shared.contains(frame) else { throw .notPermitted }
    uses[index] = use
    counts[index] = 1
    guard let level = use.level else { return }
    for position in 0..<512 as Range<UInt64> {
      do throws(XenError) {
        guard let entry = frames.entry(frame, position)?.pointee else { throw .invalid }
        try take(entry, level: level, position: position)
      } catch {
        for earlier in 0..<position { release(frames.entry(frame, earlier)?.pointee ?? 0, level: level) }
        counts[index] = 0
        throw error
      }
    }
  }

  /// One less.
  mutating func put(_ frame: UInt64) {
    guard let index = frames.index(frame), counts[index] > 0 else { return }
    counts[index] -= 1
    guard counts[index] == 0, let level = uses[index].level else { return }
    for position in 0..<512 as Range<UInt64> { release(frames.entry(frame, position)?.pointee ?? 0, level: level) }
  }

  /// Replaces an entry of a table.
  /// - Returns: whether translations that were in use may be gone.
  /// - Throws: `XenError`; nothing is changed then.
  mutating func update(table: UInt64, position: UInt64, to new: UInt64) throws(XenError) -> Bool {
    guard let level = use(table).level, let entry = frames.entry(table, position) else { throw .invalid }
    let old = entry.pointee
    try take(new, level: level, position: position)
    entry.pointee = new
    release(old, level: level)
    return old & Self.present != 0
  }

  /// The references that an entry stands for.
  private mutating func take(_ entry: UInt64, level: Int, position: UInt64) throws(XenError) {
    guard entry & Self.present != 0 else { return }
    let target = Self.frame(entry)
    guard frames.index(target) != nil else { throw .invalid }
    if level == 1 {
      if entry & Self.writable != 0 { try get(target, .writable) }
      return
    }
    // Large pages are not given; the part of the root that is the hypervisor's is not the guest's to fill.
    guard entry & Self.large == 0 || level == 4, level < 4 || !(256..<272).contains(position) else { throw .invalid }
    try get(target, .table(level - 1))
  }

  private mutating func release(_ entry: UInt64, level: Int) {
    guard entry & Self.present != 0, level > 1 || entry & Self.writable != 0 else { return }
    put(Self.frame(entry))
  }

  /// The last-level entry that maps `address`, and what all levels allow.
  func leaf(_ address: UInt64, root: UInt64) -> (table: UInt64, position: UInt64, entry: UInt64, isWritable: Bool)? {
    var table = root
    var isWritable = true
    for shift in [39, 30, 21] as [UInt64] {
      guard let entry = frames.entry(table, address >> shift)?.pointee, entry & Self.present != 0 else { return nil }
      isWritable = isWritable && entry & Self.writable != 0
      table = Self.frame(entry)
    }
    guard let entry = frames.entry(table, address >> 12)?.pointee else { return nil }
    return (table, address >> 12 & 511, entry, isWritable && entry & Self.writable != 0)
  }
}
