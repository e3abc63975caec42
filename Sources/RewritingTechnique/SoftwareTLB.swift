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
    let tags: UnsafeMutablePointer<UInt64>
    let pages: UnsafeMutablePointer<UInt64>
    var isEmpty = true
    /// Entries for pages that are not global, unless there are too many.
    var locals: [UInt16] = []
    var hasTooManyLocals = false

    static let localLimit = 256

    mutating func insert(_ linear: UInt64, _ host: UInt64, isGlobal: Bool) {
      let index = Int(linear >> 12 & UInt64(StateLayout.tlbEntries - 1))
      tags[index] = linear & ~4095
      pages[index] = host & ~4095
      isEmpty = false
      guard !isGlobal, !hasTooManyLocals else { return }
      if locals.count < Self.localLimit { locals.append(UInt16(index)) } else { hasTooManyLocals = true }
    }

    mutating func removeAll(keepsGlobal: Bool, _ empty: UnsafeMutablePointer<UInt64>) {
      guard !isEmpty else { return }
      if keepsGlobal, !hasTooManyLocals {
        for index in locals { tags[Int(index)] = empty[Int(index)] }
      } else {
        memcpy(tags, empty, StateLayout.tlbEntries * 8)
        isEmpty = true
        hasTooManyLocals = false
      }
      locals.removeAll(keepingCapacity: true)
    }
  }

  private let block: StateBlock
  private var tables: [Table] = []
  /// The tags of a table without entries.
  private let empty: UnsafeMutablePointer<UInt64>

  init(_ block: StateBlock) {
    self.block = block
    empty = .allocate(capacity: StateLayout.tlbEntries)
    for index in 0..<StateLayout.tlbEntries { empty[index] = UInt64(index ^ 1) << 12 }
    for view in 0..<StateLayout.viewCount {
      for isWrite in [false, true] {
        let table = Table(
          tags: block.words(at: StateLayout.tags(view: view, isWrite: isWrite)),
          pages: block.words(at: StateLayout.pages(view: view, isWrite: isWrite)))
        memcpy(table.tags, empty, StateLayout.tlbEntries * 8)
        tables.append(table)
      }
    }
  }

  func deallocate() { empty.deallocate() }

  /// The host address of a byte whose page is there.
  @inline(__always)
  func find(_ linear: UInt64, view: Int, isWrite: Bool) -> UInt64? {
    let index = Int(linear >> 12 & UInt64(StateLayout.tlbEntries - 1))
    let tags = block.words(at: StateLayout.tags(view: view, isWrite: isWrite))
    guard tags[index] == linear & ~4095 else { return nil }
    return block.words(at: StateLayout.pages(view: view, isWrite: isWrite))[index] | linear & 4095
  }

  mutating func insert(
    _ linear: UInt64, host: UnsafeMutableRawPointer, view: Int, isWrite: Bool, isGlobal: Bool
  ) {
    tables[view * 2 + (isWrite ? 1 : 0)].insert(linear, UInt64(UInt(bitPattern: host)), isGlobal: isGlobal)
  }

  mutating func removeAll(keepsGlobal: Bool = false) {
    for index in tables.indices { tables[index].removeAll(keepsGlobal: keepsGlobal, empty) }
  }

  /// After a page of RAM became code: stores to it must be seen.
  mutating func removeWritable(_ host: UnsafeMutableRawPointer) {
    let page = UInt64(UInt(bitPattern: host)) & ~4095
    for index in tables.indices where index & 1 != 0 && !tables[index].isEmpty {
      let table = tables[index]
      for entry in 0..<StateLayout.tlbEntries where table.pages[entry] == page { table.tags[entry] = empty[entry] }
    }
  }

  func remove(page linear: UInt64) {
    let index = Int(linear >> 12 & UInt64(StateLayout.tlbEntries - 1))
    for table in tables where table.tags[index] == linear & ~4095 { table.tags[index] = empty[index] }
  }
}
