/// Where jumps of one mode find their targets without Swift: pairs of linear RIP and host address in the state block.
///
/// Each index has two places. A target that finds the first one taken moves the one that is there to the second: so two that
/// are used in turn do not drive each other out.
struct JumpCache {
  private var first: TaggedTable
  private var second: TaggedTable

  /// - Parameter block: fresh, all zero.
  init(_ block: StateBlock, mode: Int) {
    first = Self.table(block, mode, isSecond: false)
    second = Self.table(block, mode, isSecond: true)
  }

  private static func table(_ block: StateBlock, _ mode: Int, isSecond: Bool) -> TaggedTable {
    // RIP 1 is at home in entry 1.
    TaggedTable(
      block.words(at: StateLayout.jumpCache(mode: mode, isSecond: isSecond)), count: StateLayout.jumpCacheEntries,
      emptyAtZero: 1, listLimit: 8192)
  }

  /// The translator emits the same (`JumpCacheCode`).
  @inline(__always)
  static func index(_ rip: UInt64) -> Int {
    Int((rip ^ rip >> StateLayout.jumpCacheShift) & UInt64(StateLayout.jumpCacheEntries - 1))
  }

  /// - Parameter rip: linear.
  mutating func insert(_ target: Block, at rip: UInt64, isGlobal: Bool) {
    let index = Self.index(rip)
    if first.isFilled(index), first.tag(index) != rip {
      second.set(index, tag: first.tag(index), word: first.word(index), isGlobal: first.isGlobal(index))
    }
    first.set(index, tag: rip, word: target.entryForLookup, isGlobal: isGlobal)
  }

  mutating func removeAll(keepsGlobal: Bool) {
    first.removeAll(keepsGlobal: keepsGlobal)
    second.removeAll(keepsGlobal: keepsGlobal)
  }

  /// Tells the RIPs that are there.
  func forEach(_ body: (UInt64) -> Void) {
    first.forEachTag(body)
    second.forEachTag(body)
  }

  /// What was taken out.
  struct Taken {
    var first: [TakenEntry] = []
    var second: [TakenEntry] = []

    var isEmpty: Bool { first.isEmpty && second.isEmpty }

    mutating func removeAll() {
      first.removeAll(keepingCapacity: true)
      second.removeAll(keepingCapacity: true)
    }
  }

  /// Something may be there that is not global.
  var hasLocals: Bool { first.hasLocals || second.hasLocals }

  /// Takes out what is not global. What may be on two pages is lost: one of them may be global, and would be told of by INVLPG in another
  /// address space.
  /// - Parameter taken: empty.
  mutating func takeLocals(into taken: inout Taken) {
    first.takeLocals(into: &taken.first, unless: Self.mayStraddle)
    second.takeLocals(into: &taken.second, unless: Self.mayStraddle)
  }

  /// Puts it back; what is taken is empty then.
  mutating func putBack(_ taken: inout Taken) {
    first.putBack(taken.first)
    second.putBack(taken.second)
    taken.removeAll()
  }

  /// Whether the first instruction of a block has bytes in this range of whole pages: it may begin in the page before, which is the
  /// last one below 4 GiB for 32-bit code in page 0.
  @inline(__always)
  static func mayReach(_ rip: UInt64, _ range: ClosedRange<UInt64>) -> Bool {
    range.contains(rip) || range.contains(rip &+ 14)
      || (range.lowerBound == 0 && mayStraddle(rip) && rip >> 12 == 0xf_ffff)
  }

  /// Whether an instruction there may go on in the next page.
  @inline(__always)
  static func mayStraddle(_ rip: UInt64) -> Bool { rip & 4095 > 4096 - 15 }

  /// Forgets the targets in a range of whole pages.
  func remove(_ range: ClosedRange<UInt64>) {
    Self.remove(range, from: first)
    Self.remove(range, from: second)
  }

  private static func remove(_ range: ClosedRange<UInt64>, from table: TaggedTable) {
    guard !table.isEmpty else { return }
    if range.upperBound - range.lowerBound >= 4096 {
      table.clear(0..<table.count) { mayReach($0, range) }
    } else {
      table.clear(part(of: range.lowerBound)) { mayReach($0, range) }
      // What begins at the end of the page before.
      let before = range.lowerBound &- 1
      forget(before &- 13...before, in: table)
      if range.lowerBound == 0 { forget(0xffff_fff2...0xffff_ffff, in: table) }
    }
  }

  private static func forget(_ rips: ClosedRange<UInt64>, in table: TaggedTable) {
    for rip in rips where table.tag(index(rip)) == rip { table.clear(index(rip)) }
  }

  /// The entries where the RIPs of one page are at home: only a RIP's upper bits choose among the parts of a table.
  private static func part(of page: UInt64) -> Range<Int> {
    let first = index(page) & ~4095
    return first..<first + 4096
  }
}
