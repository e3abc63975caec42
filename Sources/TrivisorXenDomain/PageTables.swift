// Direct paging: the guest's own page tables, with machine frames in them, kept safe by counting (Xen's arch/x86/mm.c is
// where the idea comes from).
//
// Each frame has at most one use at a time: page table of one level, segment descriptors, or writable. A frame becomes a
// page table only when nothing maps it writable, all its entries are then checked, and as long as it is one, nothing can map
// it writable; so what was checked stays true, and every change comes to `update`, where it is checked, too.
//
//     get(frame, use)   the first reference fixes the use and, for a table, takes references for all that its entries name
//     put(frame)        the last one gives them back
//
// Guest code of a domain can thus reach its own frames only, whatever it writes.

import TrivisorBoot
import TrivisorVMM
import TrivisorX86

/// What page-table entries may say and what frames are used for.
struct PageTables {
  /// What a frame is used for while something refers to it in that way.
  enum Use: UInt8 {
    case none, table1, table2, table3, table4, writable, descriptors

    /// 1–4 for page tables.
    var level: Int? { (1...4).contains(rawValue) ? Int(rawValue) : nil }

    static func table(_ level: Int) -> Use { Use(rawValue: UInt8(truncatingIfNeeded: level)) ?? .none }
  }

  /// The entry by which a table is named.
  private struct Parent {
    let index: Int
    let position: UInt64
    /// Of the table that the entry is in.
    let level: Int

    /// Of the entry's addresses in those of its table.
    var offset: UInt64 { position << UInt64(12 + 9 * (level - 1)) }
  }

  /// What a walk found at the last level.
  struct Leaf {
    /// The frame of the last table, and the entry's place there.
    let table, position: UInt64
    let entry: UInt64
    /// Whether all levels allow it.
    let isWritable, isExecutable, isUsers: Bool

    var isPresent: Bool { entry & PageTables.present != 0 }
  }

  static let present: UInt64 = 1
  static let writable: UInt64 = 2
  static let user: UInt64 = 1 << 2
  static let accessed: UInt64 = 1 << 5
  static let dirty: UInt64 = 1 << 6
  private static let global: UInt64 = 1 << 8
  /// Write-through, no caching; in last-level entries bit 7 belongs to them, too.
  private static let cacheAttributes: UInt64 = 3 << 3
  private static let large: UInt64 = 1 << 7
  static let noExecute: UInt64 = 1 << 63
  /// The first of three bits that are the guest's own.
  static let ownBits: UInt64 = 9
  private static let addressMask: UInt64 = 0x000f_ffff_ffff_f000

  var frames: MachineFrames
  /// 4, or 3 for the page tables of 32-bit domains (PAE).
  let levels: Int
  /// Filled by changes; emptied by whoever acts on it.
  var stale = StaleTranslations()
  /// Frames that were roots and are no more; emptied as above.
  var releasedRoots: [UInt64] = []
  /// Entries that were written on the guest's behalf.
  private(set) var updateCount: UInt64 = 0
  /// Tables whose entries were checked.
  private(set) var validationCount: UInt64 = 0
  private(set) var uses: [Use]
  private(set) var counts: [UInt32]
  private(set) var pinned: [Bool]
  private var places: TablePlaces
  /// While saved tables are counted anew: they may name frames that the domain gave back, though not for writing.
  private var isRestoring = false
  /// Of tables of the same level that see each other as pages (linear page tables): how many entries for such there are, or,
  /// below zero, how many name it. Never both, so that no chain or circle keeps itself alive.
  private var linear: [Int32]
  /// How many entries of that kind there are, those of a table for itself included.
  private var linearCount: UInt64 = 0

  init(_ frames: MachineFrames, levels: Int = 4) {
    self.frames = frames
    self.levels = levels
    let count = frames.all.count
    uses = Array(repeating: .none, count: count)
    counts = Array(repeating: 0, count: count)
    pinned = Array(repeating: false, count: count)
    places = TablePlaces(count: count)
    linear = Array(repeating: 0, count: count)
  }

  static func frame(_ entry: UInt64) -> UInt64 { (entry & addressMask) >> 12 }

  /// What the frame is used for.
  func use(_ frame: UInt64) -> Use { frames.index(frame).map { counts[$0] > 0 ? uses[$0] : .none } ?? .none }

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

  /// One more reference as a root.
  mutating func getRoot(_ frame: UInt64) throws(XenError) { try get(frame, .table(levels)) }

  /// One more reference that keeps a frame from becoming a page table.
  mutating func getWritable(_ frame: UInt64) throws(XenError) { try get(frame, .writable) }

  /// One more reference that makes a frame a page of segment descriptors; they are checked, as Xen's `set_gdt` does.
  mutating func getDescriptors(_ frame: UInt64) throws(XenError) { try get(frame, .descriptors) }

  /// How many entries of a table count: the root of a 32-bit domain has four.
  private func entryCount(_ level: Int) -> UInt64 { level == levels && levels == 3 ? 4 : 512 }

  /// One more reference of this kind, from an entry of another table if one is given.
  private mutating func get(_ frame: UInt64, _ use: Use, in parent: Parent? = nil) throws(XenError) {
    guard let index = frames.index(frame), counts[index] < .max else { throw .invalid }
    guard frames.isOwned(frame) else { throw .invalid }
    guard counts[index] == 0 else {
      guard uses[index] == use else { throw use == .writable ? .busy : .invalid }
      counts[index] += 1
      if let parent { place(index, in: parent) }
      return
    }
    guard use == .writable || !frames.isHypervisors(frame) else { throw .invalid }
    if use == .descriptors { try checkDescriptors(frame) }
    uses[index] = use
    counts[index] = 1
    guard let level = use.level else { return }
    places.clear(index)
    if level == levels { places.add(index, 0) }
    if let parent { _ = places.inherit(index, from: parent.index, offset: parent.offset) }
    validationCount &+= 1
    for position in 0..<entryCount(level) {
      do throws(XenError) {
        guard let entry = frames.entry(frame, position) else { throw .invalid }
        try take(entry.pointee, of: frame, Parent(index: index, position: position, level: level))
        let adjusted = adjusted(entry.pointee, level)
        guard adjusted != entry.pointee else { continue }
        entry.pointee = adjusted
        frames.didStore(at: entry)
      } catch {
        for earlier in 0..<position {
          release(frames.entry(frame, earlier)?.pointee ?? 0, of: frame, level: level)
        }
        counts[index] = 0
        throw error
      }
    }
  }

  /// A table is named by one more entry: so are all that it names itself.
  private mutating func place(_ index: Int, in parent: Parent) {
    guard places.inherit(index, from: parent.index, offset: parent.offset) else { return }
    let level = parent.level - 1
    guard level > 1 else { return }
    let frame = XenMachine.firstFrame + UInt64(index)
    for position in 0..<entryCount(level) {
      guard let entry = frames.entry(frame, position)?.pointee, entry & Self.present != 0,
        let below = frames.index(Self.frame(entry)), use(Self.frame(entry)).level == level - 1
      else { continue }
      place(below, in: Parent(index: index, position: position, level: level))
    }
  }

  /// One less.
  mutating func put(_ frame: UInt64) {
    guard let index = frames.index(frame), counts[index] > 0 else { return }
    counts[index] -= 1
    guard counts[index] == 0, let level = uses[index].level else { return }
    places.clear(index)
    if level == levels { releasedRoots.append(frame) }
    for position in 0..<entryCount(level) {
      release(frames.entry(frame, position)?.pointee ?? 0, of: frame, level: level)
    }
  }

  /// Replaces an entry of a table.
  /// - Throws: `XenError`; nothing is changed then.
  mutating func update(table: UInt64, position: UInt64, to new: UInt64) throws(XenError) {
    guard let index = frames.index(table), let level = use(table).level, position < entryCount(level),
      let entry = frames.entry(table, position)
    else { throw .invalid }
    let old = entry.pointee
    try take(new, of: table, Parent(index: index, position: position, level: level))
    updateCount &+= 1
    entry.pointee = adjusted(new, level)
    frames.didStore(at: entry)
    // What tables see of each other changes with every entry above the last level.
    let wasLinear = level > 1 && linearCount > 0
    release(old, of: table, level: level)
    guard old & Self.present != 0, old != new else { return }
    guard !wasLinear else { return stale.addEverything() }
    let span = UInt64(12 + 9 * (level - 1))
    if !places.each(index, { stale.add($0 &+ position << span, size: 1 << span) }) { stale.addEverything() }
  }

  /// What Xen makes of an entry of a 64-bit domain, for all to read: every page is the user's for the processor, and two
  /// bits of last-level entries tell what the guest had said (`adjust_guest_l1e` and others in arch/x86/pv/mm.h).
  private func adjusted(_ entry: UInt64, _ level: Int) -> UInt64 {
    guard levels == 4, entry & Self.present != 0 else { return entry }
    let guestKernel: UInt64 = 1 << 52
    guard level == 1 else { return entry | Self.user }
    if entry & Self.user == 0 { return entry | guestKernel | Self.user }
    return entry & guestKernel == 0 ? entry | Self.global : entry
  }

  /// Each of the frame's 512 descriptors, as Xen would have it.
  private func checkDescriptors(_ frame: UInt64) throws(XenError) {
    for position in 0..<512 as Range<UInt64> {
      guard let entry = frames.entry(frame, position),
        let checked = DomainDescriptor(entry.pointee).checked(is64Bit: levels == 4)
      else { throw .invalid }
      guard entry.pointee != checked.raw else { continue }
      entry.pointee = checked.raw
      frames.didStore(at: entry)
    }
  }

  /// The references that an entry stands for.
  private mutating func take(_ entry: UInt64, of table: UInt64, _ parent: Parent) throws(XenError) {
    guard entry & Self.present != 0 else { return }
    let (target, level) = (Self.frame(entry), parent.level)
    if level == 1 {
      guard entry & (Self.cacheAttributes | Self.large) == 0 else { throw .invalid }
      // Where no memory is: a device's, which is not given, or no frame at all.
      guard frames.index(target) != nil else { throw target == Self.addressMask >> 12 ? .invalid : .notPermitted }
      guard frames.isOwned(target) || isRestoring && entry & Self.writable == 0 else { throw .busy }
      // Those of the hypervisor's are counted in either case: they can be taken back only when nobody has them.
      if entry & Self.writable != 0 || frames.isHypervisors(target) { try get(target, .writable) }
      return
    }
    guard frames.index(target) != nil, frames.isOwned(target) else { throw .invalid }
    // Large pages are not given; the part of the root that is the hypervisor's is not the guest's to fill.
    guard entry & (Self.cacheAttributes | Self.large | Self.global) == 0,
      level < 4 || !(256..<272).contains(parent.position)
    else { throw .invalid }
    if use(target).level == level { return try takeLinear(entry, of: table, level: level) }
    try get(target, .table(level - 1), in: parent)
  }

  /// An entry that names a table of its own level, to be seen as a page where the tables of the level below would be: read-only,
  /// and only a table that is one already (Xen's `get_linear_pagetable`). The root of 32 bits can't be seen so.
  private mutating func takeLinear(_ entry: UInt64, of table: UInt64, level: Int) throws(XenError) {
    let target = Self.frame(entry)
    guard entry & Self.writable == 0, levels == 4 || level < levels else { throw .invalid }
    if target != table {
      guard let from = frames.index(table), let to = frames.index(target), linear[from] >= 0, linear[to] <= 0,
        counts[to] < .max
      else { throw .invalid }
      linear[from] += 1
      linear[to] -= 1
      counts[to] += 1
    }
    linearCount += 1
  }

  private mutating func releaseLinear(_ target: UInt64, of table: UInt64) {
    linearCount -= 1
    guard target != table, let from = frames.index(table), let to = frames.index(target) else { return }
    linear[from] -= 1
    linear[to] += 1
    put(target)
  }

  private mutating func release(_ entry: UInt64, of table: UInt64, level: Int) {
    guard entry & Self.present != 0,
      level > 1 || entry & Self.writable != 0 || frames.isHypervisors(Self.frame(entry))
    else { return }
    let target = Self.frame(entry)
    if level > 1, target == table || use(target).level == level { return releaseLinear(target, of: table) }
    put(target)
  }

  /// Whether the address is one that a domain can map: all but the hypervisor's.
  static func isGuests(_ address: UInt64, _ levels: Int) -> Bool {
    guard levels == 4 else { return address < MachineToPhysicalTable.start32 }
    return LinearAddress.isCanonical(address) && !hypervisors64.contains(address)
  }

  /// HYPERVISOR_VIRT_START to HYPERVISOR_VIRT_END of 64 bits.
  static let hypervisors64: Range<UInt64> = 0xffff_8000_0000_0000..<0xffff_8800_0000_0000

  /// The last-level entry for `address`, present or not; `nil` where there is no table for it.
  func leaf(_ address: UInt64, root: UInt64) -> Leaf? {
    var table = root
    var isWritable = true
    var isExecutable = true
    var isUsers = true
    guard Self.isGuests(address, levels) else { return nil }
    for level in stride(from: levels, to: 1, by: -1) {
      let position = address >> UInt64(12 + 9 * (level - 1)) & 511
      guard let entry = frames.entry(table, position)?.pointee, entry & Self.present != 0 else { return nil }
      // The root of a 32-bit domain says nothing of rights.
      if levels == 4 || level < 3 {
        isWritable = isWritable && entry & Self.writable != 0
        isExecutable = isExecutable && entry & Self.noExecute == 0
        isUsers = isUsers && entry & Self.user != 0
      }
      table = Self.frame(entry)
    }
    let position = address >> 12 & 511
    guard let entry = frames.entry(table, position)?.pointee else { return nil }
    return Leaf(
      table: table, position: position, entry: entry, isWritable: isWritable && entry & Self.writable != 0,
      isExecutable: isExecutable && entry & Self.noExecute == 0, isUsers: isUsers && entry & Self.user != 0)
  }

  /// Whether the frame may be written: nothing else is made of it.
  func isWritable(_ frame: UInt64) -> Bool { frames.isOwned(frame) && [.none, .writable].contains(use(frame)) }

  /// Whether something refers to the frame, and so fixes its use.
  func isReferenced(_ frame: UInt64) -> Bool { frames.index(frame).map { counts[$0] > 0 } ?? false }
}

// MARK: Saved form

extension PageTables {
  /// What the tables themselves don't say; all uses and counts follow from it and from them.
  struct Saved: Codable, Sendable, Equatable {
    struct Pin: Codable, Sendable, Equatable {
      var frame: UInt64
      var level: Int
    }

    var pins: [Pin]
    /// Frames that the domain gave back.
    var ceded: [UInt64]
  }

  private func isSeen(_ pin: Saved.Pin) -> Bool { frames.index(pin.frame).map { linear[$0] < 0 } ?? false }

  func save() -> Saved {
    let pins = pinned.indices.compactMap { index -> Saved.Pin? in
      guard pinned[index], let level = uses[index].level else { return nil }
      return Saved.Pin(frame: XenMachine.firstFrame + UInt64(index), level: level)
    }
    // What others see as pages is a table before they are looked at.
    let (seen, others) = (pins.filter { isSeen($0) }, pins.filter { !isSeen($0) })
    return Saved(pins: seen + others, ceded: frames.cededFrames)
  }

  /// Counts saved tables, and whatever `others` refers to, with a new domain's tables. What they hold is checked as if the
  /// domain had made them now.
  mutating func restore(
    _ saved: Saved, others: (inout PageTables) throws(XenError) -> Void
  ) throws(RestoreFailure) {
    for frame in saved.ceded {
      try restoring(
        Domain.savedSubject, requires: frames.isOwned(frame) && !frames.isHypervisors(frame),
        "it has given back the frame \(hexadecimal(frame)), which it can't have had")
      frames.cede(frame)
    }
    isRestoring = true
    defer { isRestoring = false }
    do throws(XenError) {
      for pin in saved.pins {
        guard (1...levels).contains(pin.level) else { throw .invalid }
        try self.pin(pin.frame, level: pin.level)
      }
      try others(&self)
    } catch {
      throw RestoreFailure(Domain.savedSubject, "its page tables or descriptors are not such as a domain may have")
    }
  }
}
