// Where near returns find their targets without a search: by the place on the stack that the return address comes from.
//
// A call leaves in the entry of its place what it pushes, where the code behind it is in the code cache, and the key that its mode has
// just then. A return from that place goes there if it finds the same address and the same key:
//
//     lea  -8(RSP), T2 ; and $(511 × 8), T2
//     cmp  %gs:entry(T2×4), T1 ; jne out                         the address
//     mov  %gs:key, T1 ; cmp %gs:entry+16(T2×4), T1 ; jne out    the mode, and what was known then
//     jmp  *%gs:entry+8(T2×4)
//
// So calls and returns that don't pair, a switch of stacks or a longjmp, do no harm, and nothing must be kept in step. A processor's own
// stack of return addresses would lose its place then.
//
// The code behind a call is in the same page, so it is where the call has left it for as long as translations of addresses stay. When they
// go, every mode gets another key, which no entry has. A block that is dropped leads on as it does for jump caches (`CodeCache.redirect`).

/// A processor's return cache.
struct ReturnCache {
  /// By the mode's number.
  private let keys: UnsafeMutablePointer<UInt64>
  /// Return address, host address, key, and a word that is not used.
  private let entries: UnsafeMutablePointer<UInt64>
  /// Entries of fresh memory have the key 0.
  private var next: UInt64 = 1

  /// - Parameter block: fresh, all zero.
  init(_ block: StateBlock) {
    keys = block.words(at: StateLayout.returnKey(mode: 0))
    entries = block.words(at: StateLayout.returns)
    removeAll()
  }

  /// A return has come by a block that is dropped: it would do so again, if it has no call of its own.
  /// - Parameters:
  ///   - rip: where it has returned to.
  ///   - stack: the stack pointer behind it.
  ///   - size: of a return address.
  func replace(_ rip: UInt64, releasedTo stack: UInt64, size: Int, mode: Int, by target: Block) {
    let place = Int(truncatingIfNeeded: (stack &- UInt64(size)) / UInt64(size))
    let entry = entries + 4 * (place & (StateLayout.returnEntries - 1))
    if entry[0] == rip, entry[2] == keys[mode] { entry[1] = target.entryForLookup }
  }

  mutating func removeAll() {
    for mode in 0..<StateLayout.modeLimit { keys[mode] = next &+ UInt64(mode) }
    next &+= UInt64(StateLayout.modeLimit)
  }
}
