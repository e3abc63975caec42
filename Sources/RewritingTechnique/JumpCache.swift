/// Where jumps of one mode find their targets without Swift: pairs of linear RIP and host address in the state block.
struct JumpCache {
  private var table: TaggedTable

  /// - Parameter block: fresh, all zero.
  init(_ block: StateBlock, mode: Int) {
    // RIP 1 is at home in entry 1.
    table = TaggedTable(
      block.words(at: StateLayout.jumpCache + Int32(mode) * StateLayout.jumpCacheSize),
      count: StateLayout.jumpCacheEntries,
      emptyAtZero: 1, listLimit: 512)
  }

  /// The translator emits the same (`TransferCode`).
  @inline(__always)
  static func index(_ rip: UInt64) -> Int {
    Int((rip ^ rip >> StateLayout.jumpCacheShift) & UInt64(StateLayout.jumpCacheEntries - 1))
  }

  mutating func insert(_ target: Block, isGlobal: Bool) {
    table.set(Self.index(target.key.rip), tag: target.key.rip, word: target.host, isGlobal: isGlobal)
  }

  mutating func removeAll(keepsGlobal: Bool) { table.removeAll(keepsGlobal: keepsGlobal) }

  func remove(page linear: UInt64) {
    guard !table.isEmpty else { return }
    let page = linear >> 12
    for index in 0..<table.count {
      // An instruction may begin in the page before.
      let rip = table.tag(index)
      if rip >> 12 == page || (rip &+ 14) >> 12 == page, table.isFilled(index) { table.clear(index) }
    }
  }

  func remove(_ block: Block) {
    let index = Self.index(block.key.rip)
    if table.tag(index) == block.key.rip { table.clear(index) }
  }
}
