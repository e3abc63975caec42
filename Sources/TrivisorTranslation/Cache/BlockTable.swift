/// Finds blocks by key: a hash table with open addressing, because a guest that jumps a lot asks it a million times a
/// second. It does not own the blocks.
struct BlockTable {
  private struct Slot {
    var rip: UInt64
    /// `nil` where nothing was ever; `removed` where something was.
    var block: Unmanaged<Block>?
    var isRemoved: Bool
  }

  private var slots: UnsafeMutablePointer<Slot>
  private var mask: Int
  /// Slots that are not empty.
  private var used = 0

  /// Small, because a guest may have little code, and memory that is touched costs its start.
  init() {
    mask = (1 << 10) - 1
    slots = Self.allocate(mask + 1)
  }

  private static func allocate(_ capacity: Int) -> UnsafeMutablePointer<Slot> {
    let slots = UnsafeMutablePointer<Slot>.allocate(capacity: capacity)
    slots.initialize(repeating: Slot(rip: 0, block: nil, isRemoved: false), count: capacity)
    return slots
  }

  func deallocate() { slots.deallocate() }

  @inline(__always)
  private func start(_ key: BlockKey) -> Int {
    let mixed = (key.rip ^ key.page &* 0x9e37_79b9) &* 0x9e37_79b9_7f4a_7c15
    return Int(truncatingIfNeeded: mixed >> 40 &+ UInt64(key.mode)) & mask
  }

  @inline(__always)
  func find(_ key: BlockKey) -> Block? {
    var index = start(key)
    while true {
      let slot = slots[index]
      if let block = slot.block {
        if slot.rip == key.rip, block._withUnsafeGuaranteedRef({ $0.key == key }) {
          return block._withUnsafeGuaranteedRef { $0 }
        }
      } else if !slot.isRemoved {
        return nil
      }
      index = (index &+ 1) & mask
    }
  }

  mutating func insert(_ block: Block) {
    if used &* 2 > mask { grow() }
    var index = start(block.key)
    while slots[index].block != nil { index = (index &+ 1) & mask }
    if !slots[index].isRemoved { used += 1 }
    slots[index] = Slot(rip: block.key.rip, block: Unmanaged.passUnretained(block), isRemoved: false)
  }

  mutating func remove(_ block: Block) {
    var index = start(block.key)
    while slots[index].block != nil || slots[index].isRemoved {
      if let found = slots[index].block, found.toOpaque() == Unmanaged.passUnretained(block).toOpaque() {
        slots[index] = Slot(rip: 0, block: nil, isRemoved: true)
        return
      }
      index = (index &+ 1) & mask
    }
  }

  mutating func removeAll() {
    slots.update(repeating: Slot(rip: 0, block: nil, isRemoved: false), count: mask + 1)
    used = 0
  }

  private mutating func grow() {
    let old = slots
    let oldCount = mask + 1
    mask = oldCount * 4 - 1
    slots = Self.allocate(mask + 1)
    used = 0
    for index in 0..<oldCount {
      if let block = old[index].block { block._withUnsafeGuaranteedRef { insert($0) } }
    }
    old.deallocate()
  }
}
