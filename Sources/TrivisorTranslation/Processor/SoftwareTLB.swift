// The tables that translated code looks in before each access, and the slow path's side of them.
//
// A tag is the linear address of a page whose index is right, so that `address ^ tag` is the offset in the page on a hit
// and at least 4096 on a miss. An empty entry's tag is that of page 0, or, in entry 0, of page 1: pages of other indices.

import Glibc
import TrivisorVMM

/// One processor's TLB: views of memory, reads and writes apart.
struct SoftwareTLB {
  private static let listLimit = 4096

  private var tables: [TaggedTable] = []
  private var largePages = LargePages()
  private var keyed = KeyedEntries()

  /// - Parameter block: fresh, all zero.
  init(_ block: StateBlock) {
    for view in 0..<StateLayout.viewCount {
      for isWrite in [false, true] {
        tables.append(
          TaggedTable(
            block.words(at: StateLayout.tlbTable(view: view, isWrite: isWrite)), count: StateLayout.tlbEntries,
            emptyAtZero: 1 << 12, listLimit: Self.listLimit))
      }
    }
  }

  @inline(__always)
  private static func index(_ linear: UInt64) -> Int { Int(linear >> 12 & UInt64(StateLayout.tlbEntries - 1)) }

  /// The host address of a byte whose page is there.
  @inline(__always)
  func find(_ linear: UInt64, view: Int, isWrite: Bool) -> UInt64? {
    let number = view * 2 + (isWrite ? 1 : 0)
    let index = Self.index(linear)
    guard tables[number].tag(index) == linear & ~4095 else { return nil }
    return tables[number].word(index) | linear & 4095
  }

  /// - Parameters:
  ///   - shift: log2 of the size of the page that the translation is of.
  ///   - key: its protection key.
  mutating func insert(
    _ linear: UInt64, host: UnsafeMutableRawPointer, view: Int, isWrite: Bool, isGlobal: Bool, shift: UInt64, key: UInt8
  ) {
    largePages.note(linear, shift: shift, isGlobal: isGlobal)
    let (table, index) = (view * 2 + (isWrite ? 1 : 0), Self.index(linear))
    if key != 0 {
      keyed.note(
        KeyedEntries.Place(table: UInt8(truncatingIfNeeded: table), index: UInt16(truncatingIfNeeded: index)), key: key,
        isGlobal: isGlobal)
    }
    tables[table].set(
      index, tag: linear & ~4095, word: UInt64(UInt(bitPattern: host)) & ~4095, isGlobal: isGlobal)
  }

  /// Protection keys, a bit each, take more than when their pages' entries were filled.
  mutating func remove(keys: UInt16) {
    guard let places = keyed.take(keys) else { return removeAll() }
    for place in places { tables[Int(place.table)].clear(Int(place.index)) }
  }

  mutating func removeAll(keepsGlobal: Bool = false) {
    for number in tables.indices { tables[number].removeAll(keepsGlobal: keepsGlobal) }
    largePages.removeAll(keepsGlobal: keepsGlobal)
    keyed.removeAll(keepsGlobal: keepsGlobal)
  }

  /// What was taken out of the tables, by table.
  struct Taken {
    var tables = [[TakenEntry]](repeating: [], count: 2 * StateLayout.viewCount)
    var largePages: Set<UInt64> = []
    /// Host pages that may be among the words of tables for writes.
    var writable = PageFilter()

    mutating func removeAll() {
      for number in tables.indices where !tables[number].isEmpty { tables[number].removeAll(keepingCapacity: true) }
      largePages.removeAll(keepingCapacity: true)
      writable.removeAll()
    }

    /// - Parameter page: a host address.
    mutating func removeWritable(_ page: UInt64) {
      guard writable.mayHold(page...page) else { return }
      for number in tables.indices where number & 1 != 0 { tables[number].removeAll { $0.word == page } }
    }
  }

  /// All large pages are noted, so that translations can be taken out together with what INVLPG must know of them, and all pages with keys.
  var canTake: Bool { !largePages.isOverflowing && keyed.isComplete }

  /// Takes out what is not global. Pages with keys are lost: PKRU may be another one by the time that they are wanted again.
  /// - Parameter taken: empty.
  mutating func takeLocals(into taken: inout Taken) {
    for place in keyed.takeAll() { tables[Int(place.table)].clear(Int(place.index)) }
    for number in tables.indices where tables[number].hasLocals {
      tables[number].takeLocals(into: &taken.tables[number])
      if number & 1 != 0 { for entry in taken.tables[number] { taken.writable.note(entry.word) } }
    }
    largePages.takeLocals(into: &taken.largePages)
  }

  /// Puts it back; what is taken is empty then.
  mutating func putBack(_ taken: inout Taken) {
    for number in tables.indices where !taken.tables[number].isEmpty { tables[number].putBack(taken.tables[number]) }
    largePages.putBack(&taken.largePages)
    taken.removeAll()
  }

  /// After a page of RAM became code: stores to it must be seen.
  func removeWritable(_ host: UnsafeMutableRawPointer) {
    let page = UInt64(UInt(bitPattern: host)) & ~4095
    for number in tables.indices where number & 1 != 0 && !tables[number].isEmpty {
      for index in 0..<StateLayout.tlbEntries where tables[number].word(index) == page { tables[number].clear(index) }
    }
  }

  /// INVLPG: the page goes, and all of the large pages around it.
  mutating func remove(page linear: UInt64) {
    let index = Self.index(linear)
    for number in tables.indices where tables[number].tag(index) == linear & ~4095 { tables[number].clear(index) }
    for range in largePages.take(around: linear) { remove(range) }
  }

  private func remove(_ range: ClosedRange<UInt64>) {
    let pages = (range.upperBound - range.lowerBound) >> 12
    // As many entries as there are pages, at most: consecutive pages have consecutive entries.
    let first = Self.index(range.lowerBound)
    for number in tables.indices where !tables[number].isEmpty {
      for step in 0..<min(Int(pages) + 1, StateLayout.tlbEntries) {
        let index = (first + step) & (StateLayout.tlbEntries - 1)
        if range.contains(tables[number].tag(index)) { tables[number].clear(index) }
      }
    }
  }
}
