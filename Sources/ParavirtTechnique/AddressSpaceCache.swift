import Sandbox
import Synchronization
import VMM

/// What guest code can reach: all that a root maps, or what of it user code may have.
struct AddressView: Hashable {
  let root: UInt64
  let isUsers: Bool
}

/// The sandboxed processes of a domain, one for each root of page tables that was used lately. Making a process costs
/// milliseconds, so one whose root is gone is kept for the next.
final class AddressSpaceCache: TranslationKeeper, @unchecked Sendable {
  // Unchecked: used with the domain's lock held.

  /// How many processes at most, as long as the processors need no more.
  private static let limit = 12

  private let memory: GuestMemory
  private let threadCount: Int
  private let is32Bit: Bool
  private struct Entry {
    let space: GuestAddressSpace
    var lastUse: UInt64
  }
  private var spaces: [AddressView: Entry] = [:]
  private var spare: [GuestAddressSpace] = []
  private var uses: UInt64 = 0
  private(set) var createdCount: UInt64 = 0
  /// A process that died or refused; told by whoever runs in it.
  private(set) var failure: MappingFailure?

  init(memory: GuestMemory, threadCount: Int, is32Bit: Bool) {
    self.memory = memory
    self.threadCount = threadCount
    self.is32Bit = is32Bit
  }

  /// One made in advance.
  func add(_ space: GuestAddressSpace) { spare.append(space) }

  /// The process for a root.
  /// - Parameter inUse: those whose processes must stay.
  func space(for view: AddressView, inUse: Set<AddressView>) throws(TechniqueFailure) -> GuestAddressSpace {
    uses &+= 1
    if let entry = spaces[view] {
      spaces[view]?.lastUse = uses
      return entry.space
    }
    let space: GuestAddressSpace
    if let old = spare.popLast() {
      space = old
    } else if spaces.count >= Self.limit,
      let victim = spaces.filter({ !inUse.contains($0.key) }).min(by: { $0.value.lastUse < $1.value.lastUse })
    {
      spaces[victim.key] = nil
      space = victim.value.space
      empty(space)
    } else {
      space = try GuestAddressSpace(memory: memory, threadCount: threadCount, is32Bit: is32Bit)
      createdCount &+= 1
    }
    spaces[view] = Entry(space: space, lastUse: uses)
    return space
  }

  func remove(_ stale: StaleTranslations) {
    for entry in spaces.values {
      do throws(MappingFailure) { try entry.space.remove(stale) } catch { failure = error }
    }
  }

  func forget(root: UInt64) {
    for isUsers in [false, true] {
      guard let entry = spaces.removeValue(forKey: AddressView(root: root, isUsers: isUsers)) else { continue }
      empty(entry.space)
      spare.append(entry.space)
    }
  }

  private func empty(_ space: GuestAddressSpace) {
    do throws(MappingFailure) { try space.removeAll() } catch { failure = error }
  }

  func destroy() {
    for entry in spaces.values { entry.space.destroy() }
    for space in spare { space.destroy() }
  }
}
