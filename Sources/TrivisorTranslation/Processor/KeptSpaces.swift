// What a processor remembers of the address spaces that it is not in, for guests that give each a number (PCID, CR4.PCIDE).
//
// A processor has many address spaces' translations at once and compares the number with each access. Here the tables that translated code looks in
// are one address space's, and its accesses are as short as without: so a switch takes out what is not global, and puts
// back what the next space had. That costs as much as clearing the tables does, a few nanoseconds an entry, and each of them that is used again
// would have been an exit.
//
// Nothing in here can be reached by translated code. So INVLPG, which drops translations of the current space and global ones, has
// nothing to do here, as long as nothing here depends on a global page: jumps to an instruction on two pages might, and are not kept. INVPCID and loads of CR3 that don't keep translations drop a space as a whole.

import TrivisorVMM

/// Taken-out translations, by the number of their address space.
struct KeptSpaces {
  /// As many as Linux has numbers for on a processor, and two more.
  private static let limit = 8

  /// One address space's.
  final class Space {
    /// PCID; `nil` if there is nothing in it.
    fileprivate(set) var context: UInt64?
    fileprivate var turn: UInt64 = 0
    var data = SoftwareTLB.Taken()
    var code = InstructionTLB.Taken()
    /// By the mode's number.
    var jumps = [JumpCache.Taken](repeating: JumpCache.Taken(), count: StateLayout.modeLimit)

    fileprivate func removeAll() {
      context = nil
      data.removeAll()
      code.removeAll()
      removeJumps()
    }

    fileprivate func removeJumps() {
      for mode in jumps.indices where !jumps[mode].isEmpty { jumps[mode].removeAll() }
    }
  }

  private var spaces: [Space] = []
  private var turns: UInt64 = 0

  /// An empty one for what is taken out of this context. If there are too many, the one that has waited longest makes way for it.
  /// - Parameter next: the context whose translations are about to be put back.
  mutating func makeRoom(for context: UInt64, before next: UInt64) -> Space {
    turns += 1
    let space: Space
    if let empty = spaces.first(where: { $0.context == nil }) {
      space = empty
    } else if spaces.count == Self.limit, let oldest = oldest(but: next) {
      oldest.removeAll()
      space = oldest
    } else {
      space = Space()
      spaces.append(space)
    }
    space.context = context
    space.turn = turns
    return space
  }

  private func oldest(but next: UInt64) -> Space? {
    spaces.lazy.filter { $0.context != next }.min { $0.turn < $1.turn }
  }

  /// The one of a context, for whoever puts back all of it.
  mutating func take(_ context: UInt64) -> Space? {
    guard let space = spaces.first(where: { $0.context == context }) else { return nil }
    space.context = nil
    return space
  }

  func remove(_ context: UInt64) {
    for space in spaces where space.context == context { space.removeAll() }
  }

  func removeAll() {
    for space in spaces where space.context != nil { space.removeAll() }
  }

  /// Tells the RIPs of the jumps that are kept.
  func forEachJump(_ body: (UInt64) -> Void) {
    for space in spaces where space.context != nil {
      for taken in space.jumps {
        for entry in taken.first { body(entry.tag) }
        for entry in taken.second { body(entry.tag) }
      }
    }
  }

  /// All blocks are gone.
  func removeJumps() {
    for space in spaces where space.context != nil { space.removeJumps() }
  }

  /// A page of RAM became code: stores to it must be seen.
  /// - Parameter page: a host address.
  func removeWritable(_ page: UInt64) {
    for space in spaces where space.context != nil { space.data.removeWritable(page) }
  }
}
