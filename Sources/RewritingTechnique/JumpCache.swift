/// Where jumps of one mode find their targets without Swift: pairs of linear RIP and host address in the state block.
struct JumpCache {
  private let entries: UnsafeMutablePointer<UInt64>
  /// Entries that go when translations that are not global do; too many to list is more than the capacity.
  private var locals: [UInt16] = []
  private var hasTooManyLocals = false
  private var isEmpty = true
  private static let localLimit = 512
  /// What nothing is found by: not canonical, and not at home in this entry, so that a jump to just there does not hit.
  private static func nowhere(_ entry: Int) -> UInt64 { index(1 << 63) == entry ? 1 << 63 | 1 : 1 << 63 }

  init(_ block: StateBlock, mode: Int) {
    entries = block.words(at: StateLayout.jumpCache + Int32(mode) * StateLayout.jumpCacheSize)
    locals.reserveCapacity(Self.localLimit)
    clear()
  }

  /// The translator emits the same (`Translator+Control`).
  @inline(__always)
  static func index(_ rip: UInt64) -> Int {
    Int((rip ^ rip >> StateLayout.jumpCacheShift) & UInt64(StateLayout.jumpCacheEntries - 1))
  }

  mutating func insert(_ target: Block, isGlobal: Bool) {
    let index = Self.index(target.key.rip)
    entries[2 * index] = target.key.rip
    entries[2 * index + 1] = target.host
    isEmpty = false
    guard !isGlobal, !hasTooManyLocals else { return }
    if locals.count < Self.localLimit {
      locals.append(UInt16(index))
    } else {
      hasTooManyLocals = true
    }
  }

  mutating func removeAll(keepsGlobal: Bool) {
    guard !isEmpty else { return }
    if keepsGlobal, !hasTooManyLocals {
      for index in locals { entries[2 * Int(index)] = Self.nowhere(Int(index)) }
      locals.removeAll(keepingCapacity: true)
    } else {
      clear()
    }
  }

  mutating private func clear() {
    for index in 0..<StateLayout.jumpCacheEntries { entries[2 * index] = Self.nowhere(index) }
    locals.removeAll(keepingCapacity: true)
    hasTooManyLocals = false
    isEmpty = true
  }

  func remove(page linear: UInt64) {
    guard !isEmpty else { return }
    let page = linear >> 12
    for index in 0..<StateLayout.jumpCacheEntries {
      // An instruction may begin in the page before.
      let rip = entries[2 * index]
      if rip >> 12 == page || (rip &+ 14) >> 12 == page { entries[2 * index] = Self.nowhere(index) }
    }
  }

  func remove(_ block: Block) {
    let index = Self.index(block.key.rip)
    if entries[2 * index] == block.key.rip { entries[2 * index] = Self.nowhere(index) }
  }
}
