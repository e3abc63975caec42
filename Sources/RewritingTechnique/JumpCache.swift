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

  /// - Parameter rip: linear.
  mutating func insert(_ target: Block, at rip: UInt64, isGlobal: Bool) {
    table.set(Self.index(rip), tag: rip, word: target.host, isGlobal: isGlobal)
  }

  mutating func removeAll(keepsGlobal: Bool) { table.removeAll(keepsGlobal: keepsGlobal) }

  /// Whether the first instruction of a block has bytes in this range of whole pages: it may begin in the page before.
  @inline(__always)
  static func mayReach(_ rip: UInt64, _ range: ClosedRange<UInt64>) -> Bool {
    range.contains(rip) || range.contains(rip &+ 14)
  }

  /// Forgets the targets in a range of whole pages.
  func remove(_ range: ClosedRange<UInt64>) {
    guard !table.isEmpty else { return }
    for index in 0..<table.count where Self.mayReach(table.tag(index), range) && table.isFilled(index) {
      table.clear(index)
    }
  }

  /// Forgets a target that has one linear address only.
  func remove(_ block: Block) {
    let index = Self.index(block.key.rip)
    if table.tag(index) == block.key.rip { table.clear(index) }
  }
}
