import TrivisorSandbox
import Synchronization
import TrivisorVMM
import TrivisorXenDomain

/// The sandboxed processes of a domain, one for each root of page tables that was used lately. Making a process costs
/// milliseconds, so one whose root is gone is kept for the next.
final class AddressSpaceCache: TranslationKeeper, @unchecked Sendable {
  // Unchecked: used with the domain's lock held.

  /// How many processes at most, as long as the processors need no more.
  private static let limit = 12

  private let memory: GuestMemory
  private let threadCount: Int
  private let is32Bit: Bool
  private let window: UpperWindow?
  private final class Entry {
    let space: GuestAddressSpace
    var lastUse: UInt64

    init(space: GuestAddressSpace, lastUse: UInt64) {
      self.space = space
      self.lastUse = lastUse
    }
  }
  private var spaces: [AddressView: Entry] = [:]
  private var spare: [GuestAddressSpace] = []
  private let reserve: SpaceReserve
  /// By virtual processor, what it was in last: these processes stay.
  private var inUse: [AddressView?]
  private var uses: UInt64 = 0
  private(set) var createdCount: UInt64 = 0

  /// - Parameter window: what all of them can read at an address of the upper half.
  init(memory: GuestMemory, threadCount: Int, is32Bit: Bool, window: UpperWindow? = nil) {
    self.memory = memory
    self.window = window
    self.threadCount = threadCount
    self.is32Bit = is32Bit
    inUse = Array(repeating: nil, count: threadCount)
    reserve = SpaceReserve {
      try? GuestAddressSpace(memory: memory, threadCount: threadCount, is32Bit: is32Bit, window: window)
    }
  }

  /// The process for what a virtual processor is to run in next.
  func space(for view: AddressView, processor: Int) throws(TechniqueFailure) -> GuestAddressSpace {
    inUse[processor] = view
    uses &+= 1
    if let entry = spaces[view], !entry.space.process.hasEnded {
      entry.lastUse = uses
      return entry.space
    }
    let space = try availableSpace()
    spaces[view] = Entry(space: space, lastUse: uses)
    return space
  }

  /// An empty one: one whose root is gone, or that was not used for long, or a new one.
  private func availableSpace() throws(TechniqueFailure) -> GuestAddressSpace {
    while let old = spare.popLast() {
      if !old.process.hasEnded { return old }
    }
    while spaces.count >= Self.limit,
      let victim = spaces.filter({ !inUse.contains($0.key) }).min(by: { $0.value.lastUse < $1.value.lastUse })
    {
      spaces[victim.key] = nil
      if empty(victim.value.space) { return victim.value.space }
    }
    createdCount &+= 1
    // Most domains have one root, or two.
    if spaces.count > 1, let space = reserve.take(), !space.process.hasEnded { return space }
    return try GuestAddressSpace(memory: memory, threadCount: threadCount, is32Bit: is32Bit, window: window)
  }

  func remove(_ stale: StaleTranslations) {
    for (view, entry) in spaces {
      do throws(MappingFailure) {
        try entry.space.remove(stale)
      } catch {
        discard(entry.space, of: view)
      }
    }
  }

  func forget(root: UInt64) {
    for isUsers in [false, true] {
      guard let entry = spaces.removeValue(forKey: AddressView(root: root, isUsers: isUsers)) else { continue }
      if empty(entry.space) { spare.append(entry.space) }
    }
  }

  /// A process that has ended, or that keeps translations which it should not have, is not used again.
  private func discard(_ space: GuestAddressSpace, of view: AddressView) {
    space.destroy()
    spaces[view] = nil
  }

  /// - Returns: whether it can be used again.
  private func empty(_ space: GuestAddressSpace) -> Bool {
    do throws(MappingFailure) {
      try space.removeAll()
      return true
    } catch {
      space.destroy()
      return false
    }
  }

  func destroy() {
    reserve.end()
    for entry in spaces.values { entry.space.destroy() }
    for space in spare { space.destroy() }
  }
}
