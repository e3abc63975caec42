// The tables that translated code looks in before each access, and the slow path's side of them.
//
// A tag is the linear address of a page whose index is right, so that `address ^ tag` is the offset in the page on a hit
// and at least 4096 on a miss. An empty entry holds a page of its neighbour's index: nothing can hit it.

import VMM

/// One processor's TLB: three views of memory, reads and writes apart.
struct SoftwareTLB {
  private let block: StateBlock
  /// Views with anything in them.
  private var used: UInt32 = 0

  init(_ block: StateBlock) {
    self.block = block
    for view in 0..<StateLayout.viewCount {
      clear(view: view, isWrite: false)
      clear(view: view, isWrite: true)
    }
  }

  private func clear(view: Int, isWrite: Bool) {
    let tags = block.words(at: StateLayout.tags(view: view, isWrite: isWrite))
    for index in 0..<StateLayout.tlbEntries { tags[index] = UInt64(index ^ 1) << 12 }
  }

  private func bit(_ view: Int, _ isWrite: Bool) -> UInt32 { 1 << UInt32(view * 2 + (isWrite ? 1 : 0)) }

  mutating func insert(_ linear: UInt64, host: UnsafeMutableRawPointer, view: Int, isWrite: Bool) {
    let index = Int(linear >> 12 & UInt64(StateLayout.tlbEntries - 1))
    block.words(at: StateLayout.tags(view: view, isWrite: isWrite))[index] = linear & ~4095
    block.words(at: StateLayout.pages(view: view, isWrite: isWrite))[index] = UInt64(UInt(bitPattern: host)) & ~4095
    used |= bit(view, isWrite)
  }

  mutating func removeAll() {
    for view in 0..<StateLayout.viewCount {
      if used & bit(view, false) != 0 { clear(view: view, isWrite: false) }
      if used & bit(view, true) != 0 { clear(view: view, isWrite: true) }
    }
    used = 0
  }

  /// After a page became code: stores to it must be seen.
  mutating func removeWritable() {
    for view in 0..<StateLayout.viewCount where used & bit(view, true) != 0 {
      clear(view: view, isWrite: true)
      used &= ~bit(view, true)
    }
  }

  func remove(page linear: UInt64) {
    let index = Int(linear >> 12 & UInt64(StateLayout.tlbEntries - 1))
    for view in 0..<StateLayout.viewCount {
      block.words(at: StateLayout.tags(view: view, isWrite: false))[index] = UInt64(index ^ 1) << 12
      block.words(at: StateLayout.tags(view: view, isWrite: true))[index] = UInt64(index ^ 1) << 12
    }
  }
}
