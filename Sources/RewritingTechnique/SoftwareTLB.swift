// The tables that translated code looks in before each access, and the slow path's side of them.
//
// A tag is the linear address of a page whose index is right, so that `address ^ tag` is the offset in the page on a hit
// and at least 4096 on a miss. An empty entry holds a page of its neighbour's index: nothing can hit it.
//
// A load of CR3 leaves global pages alone, so each table has a list of its entries that are not.

import Glibc
import VMM

/// One processor's TLB: views of memory, reads and writes apart.
struct SoftwareTLB {
  private struct Table {
    /// A tag and a page each.
    let entries: UnsafeMutablePointer<UInt64>
    var isEmpty = true
    /// Entries for pages that are not global, unless there are too many.
    var locals: [UInt16] = []
    var hasTooManyLocals = false

    static let localLimit = 4096

    mutating func insert(_ linear: UInt64, _ host: UInt64, isGlobal: Bool) {
      let index = SoftwareTLB.index(linear)
      entries[2 * index] = linear & ~4095
      entries[2 * index + 1] = host & ~4095
      isEmpty = false
      guard !isGlobal, !hasTooManyLocals else { return }
      if locals.count < Self.localLimit { locals.append(UInt16(index)) } else { hasTooManyLocals = true }
    }

    @inline(__always)
    func clear(_ index: Int) { entries[2 * index] = UInt64(index ^ 1) << 12 }

    func clear() {
      for index in 0..<StateLayout.tlbEntries { clear(index) }
    }

    mutating func removeAll(keepsGlobal: Bool) {
      guard !isEmpty else { return }
      if keepsGlobal, !hasTooManyLocals {
        for index in locals { clear(Int(index)) }
      } else {
        clear()
        isEmpty = true
        hasTooManyLocals = false
      }
      locals.removeAll(keepingCapacity: true)
    }
  }

  private var tables: [Table] = []

  init(_ block: StateBlock) {
    for view in 0..<StateLayout.viewCount {
      for isWrite in [false, true] {
        let table = Table(entries: block.words(at: StateLayout.tlbTable(view: view, isWrite: isWrite)))
        table.clear()
        tables.append(table)
      }
    }
  }

  @inline(__always)
  private static func index(_ linear: UInt64) -> Int { Int(linear >> 12 & UInt64(StateLayout.tlbEntries - 1)) }

  /// The host address of a byte whose page is there.
  @inline(__always)
  func find(_ linear: UInt64, view: Int, isWrite: Bool) -> UInt64? {
    let entries = tables[view * 2 + (isWrite ? 1 : 0)].entries
    let index = Self.index(linear)
    guard entries[2 * index] == linear & ~4095 else { return nil }
    return entries[2 * index + 1] | linear & 4095
  }

  mutating func insert(
    _ linear: UInt64, host: UnsafeMutableRawPointer, view: Int, isWrite: Bool, isGlobal: Bool
  ) {
    tables[view * 2 + (isWrite ? 1 : 0)].insert(linear, UInt64(UInt(bitPattern: host)), isGlobal: isGlobal)
  }

  mutating func removeAll(keepsGlobal: Bool = false) {
    for index in tables.indices { tables[index].removeAll(keepsGlobal: keepsGlobal) }
  }

  /// After a page of RAM became code: stores to it must be seen.
  func removeWritable(_ host: UnsafeMutableRawPointer) {
    let page = UInt64(UInt(bitPattern: host)) & ~4095
    for number in tables.indices where number & 1 != 0 && !tables[number].isEmpty {
      let table = tables[number]
      for index in 0..<StateLayout.tlbEntries where table.entries[2 * index + 1] == page { table.clear(index) }
    }
  }

  func remove(page linear: UInt64) {
    let index = Self.index(linear)
    for table in tables where table.entries[2 * index] == linear & ~4095 { table.clear(index) }
  }
}
