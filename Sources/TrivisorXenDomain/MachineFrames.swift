import TrivisorBoot
import TrivisorVMM

/// Guest memory by machine frame numbers. All that a domain can name in a page table is here, and nothing else.
struct MachineFrames {
  private let base: UnsafeMutableRawPointer
  private let count: UInt64
  /// Frames that the domain gave back (XENMEM_decrease_reservation).
  private var ceded: Set<UInt64> = []
  /// The last ones are the hypervisor's, of which a domain may map those that it is lent.
  private let hypervisors: Range<UInt64>
  private var lent: [Range<UInt64>] = []
  private let watch: MemoryWatch

  init(_ memory: GuestMemory) {
    // The regions lie one behind the other in the host's mapping, as they do in the memory's file.
    base = memory.regions[0].host
    watch = memory.watch
    count = memory.size / GuestMemory.pageSize
    let first = XenMachine.firstFrame + XenMachine.domainFrameCount(memory)
    hypervisors = first..<(XenMachine.firstFrame + count)
  }

  /// Says which of the hypervisor's frames the domain may map.
  mutating func lend(_ frames: [Range<UInt64>]) { lent = frames }

  /// Whether the frame is the hypervisor's.
  func isHypervisors(_ frame: UInt64) -> Bool { hypervisors.contains(frame) }

  /// How many there are, shared_info included.
  var all: Range<UInt64> { XenMachine.firstFrame..<(XenMachine.firstFrame + count) }

  func index(_ frame: UInt64) -> Int? { all.contains(frame) ? Int(frame - XenMachine.firstFrame) : nil }

  /// Whether the frame is the domain's, or one that the hypervisor shares with it.
  func isOwned(_ frame: UInt64) -> Bool {
    guard all.contains(frame) else { return false }
    guard !hypervisors.contains(frame) else { return lent.contains { $0.contains(frame) } }
    return !ceded.contains(frame)
  }

  /// How many the domain has.
  var ownedCount: Int { Int(hypervisors.lowerBound - XenMachine.firstFrame) - ceded.count }

  /// How many the domain gave back.
  var cededCount: Int { ceded.count }

  mutating func cede(_ frame: UInt64) { ceded.insert(frame) }

  /// One of those given back, or `nil`.
  mutating func reclaim() -> UInt64? { ceded.popFirst() }

  /// Those that the domain gave back, in their order.
  var cededFrames: [UInt64] { ceded.sorted() }

  /// The frame that a place in one of them belongs to.
  func frame(of place: UnsafeMutableRawPointer) -> UInt64 {
    XenMachine.firstFrame + UInt64(place - base) / GuestMemory.pageSize
  }

  /// This one of them.
  mutating func reclaim(_ frame: UInt64) { ceded.remove(frame) }

  /// So many of those given back that lie one behind the other, from a multiple of their number on.
  mutating func reclaim(order: UInt64) -> UInt64? {
    guard order > 0 else { return reclaim() }
    let size = 1 << order as UInt64
    guard
      let first = ceded.first(where: { first in
        first % size == 0 && (first..<(first + size)).allSatisfy { ceded.contains($0) }
      })
    else { return nil }
    for frame in first..<(first + size) { ceded.remove(frame) }
    return first
  }

  /// Where in the memory's file, in bytes.
  func fileOffset(_ frame: UInt64) -> UInt64? {
    index(frame).map { UInt64($0) * GuestMemory.pageSize }
  }

  /// The frame's 4096 bytes.
  func bytes(_ frame: UInt64) -> UnsafeMutableRawPointer? {
    index(frame).map { base + $0 * Int(GuestMemory.pageSize) }
  }

  /// To be told of what the hypervisor has stored in the domain's own pages: whoever has translated code there must know.
  func didStore(at place: UnsafeMutableRawPointer, count: Int) { watch.stored(at: place, count: count) }

  /// The same of an entry of a page table.
  func didStore(at entry: UnsafeMutablePointer<UInt64>) {
    watch.stored(at: UnsafeMutableRawPointer(entry), count: MemoryLayout<UInt64>.size)
  }

  /// One of the 512 entries of a page table.
  func entry(_ frame: UInt64, _ index: UInt64) -> UnsafeMutablePointer<UInt64>? {
    bytes(frame).map { $0.assumingMemoryBound(to: UInt64.self) + Int(index & 511) }
  }
}
