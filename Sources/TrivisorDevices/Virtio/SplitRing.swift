// The split virtqueue (virtio 1.2, 2.7): three tables in guest memory by which a driver hands buffers to a device.
//
//     descriptor table   size × { address, length, flags, next }        written by the driver
//     available ring     flags, index, size × head, used_event          written by the driver
//     used ring          flags, index, size × { head, length }, avail_event   written by the device
//
// The driver runs on other processors while we look, and may be hostile. Three rules keep that harmless:
//
// - Each field is loaded once, by one atomic load; what was loaded is validated and used, and never loaded again.
// - An index that the other side publishes is loaded with acquire order before what it covers, and ours is stored with
//   release order after; between our store and the load of the field by which the other side says whether it wants to
//   be told stands a full fence, because there a store must be seen before a later load.
// - Nothing is trusted to end: a chain is walked for at most as many steps as its table has entries.
//
// What breaks a rule of the specification is a `VirtioFault`, after which the ring is not touched again.

import TrivisorCLinux
import Glibc
import Synchronization
import TrivisorVMM

/// A request as the driver put it: what the device reads, then what it writes.
struct DescriptorChain {
  let head: UInt16
  var readable: BufferList
  var writable: BufferList
}

/// The device's side of one split virtqueue. Not synchronized: `VirtioQueue` is.
struct SplitRing: @unchecked Sendable {
  // Unchecked: pointers into guest memory, which `memory` keeps; accesses are atomic.

  /// Pieces a request may have: what preadv(2) takes at once.
  static let maximumChainLength = 1024

  /// Where the driver put the tables.
  struct Layout: Codable, Sendable, Equatable {
    var size: UInt64 = 0
    var descriptors: UInt64 = 0
    var available: UInt64 = 0
    var used: UInt64 = 0
  }

  private enum Flag {
    static let next: UInt16 = 1
    static let write: UInt16 = 2
    static let indirect: UInt16 = 4
    static let noNotification: UInt16 = 1
    static let noInterrupt: UInt16 = 1
  }

  private static let descriptorSize: UInt64 = 16

  let memory: GuestMemory
  private let size: UInt16
  private let descriptors: UnsafeMutableRawPointer
  private let available: UnsafeMutableRawPointer
  private let used: UnsafeMutableRawPointer
  private let usesEventIndex: Bool
  private let allowsIndirect: Bool

  /// The head that is looked at next.
  private var nextAvailable: UInt16 = 0
  private var nextUsed: UInt16 = 0
  /// `nextUsed` when the driver was last interrupted.
  private var interruptedAt: UInt16 = 0
  private var suppressesNotifications = false

  /// - Throws: `VirtioFault` unless the size is allowed and the tables lie aligned in guest memory.
  init(
    _ layout: Layout, maximumSize: UInt16, features: VirtioFeatures, memory: GuestMemory
  ) throws(VirtioFault) {
    guard let size = UInt16(exactly: layout.size), size > 0, size & (size - 1) == 0, size <= maximumSize else {
      throw .unusableSize(layout.size)
    }
    let count = UInt64(size)
    self.memory = memory
    self.size = size
    descriptors = try Self.table(layout.descriptors, size: Self.descriptorSize * count, alignment: 16, memory)
    available = try Self.table(layout.available, size: 6 + 2 * count, alignment: 2, memory)
    used = try Self.table(layout.used, size: 6 + 8 * count, alignment: 4, memory)
    usesEventIndex = features.contains(.eventIndex)
    allowsIndirect = features.contains(.indirectDescriptors)
  }

  /// Where the device is in a ring. The requests themselves, those that wait included, are in guest memory.
  struct Progress: Codable, Sendable, Equatable {
    var nextAvailable: UInt16
    var nextUsed: UInt16
    var interruptedAt: UInt16
    var suppressesNotifications: Bool
  }

  /// Any place in the ring can be: what the driver's side says of it is checked with each request.
  var progress: Progress {
    get {
      Progress(
        nextAvailable: nextAvailable, nextUsed: nextUsed, interruptedAt: interruptedAt,
        suppressesNotifications: suppressesNotifications)
    }
    set {
      (nextAvailable, nextUsed) = (newValue.nextAvailable, newValue.nextUsed)
      (interruptedAt, suppressesNotifications) = (newValue.interruptedAt, newValue.suppressesNotifications)
    }
  }

  private static func table(
    _ address: UInt64, size: UInt64, alignment: UInt64, _ memory: GuestMemory
  ) throws(VirtioFault) -> UnsafeMutableRawPointer {
    let address = GuestPhysicalAddress(address)
    guard address.rawValue % alignment == 0, let pointer = memory.host(address, count: size) else {
      throw .unusableTable(address)
    }
    return pointer
  }

  // MARK: From the driver

  /// The next request, if there is one; it stays next until `complete`.
  /// - Parameter storage: room for `maximumChainLength` pieces, which the chain refers to.
  mutating func next(storage: UnsafeMutablePointer<iovec>) throws(VirtioFault) -> DescriptorChain? {
    try request(0, storage: storage, room: Self.maximumChainLength)
  }

  /// A request further on, if there are so many; all stay where they are until they are completed.
  /// - Parameters:
  ///   - distance: how many are before it.
  ///   - room: how many pieces `storage` has room for.
  func request(
    _ distance: UInt16, storage: UnsafeMutablePointer<iovec>, room: Int
  ) throws(VirtioFault) -> DescriptorChain? {
    let published = available.field(UInt16.self, at: 2).pointee.load(ordering: .acquiring)
    let waiting = published &- nextAvailable
    if waiting <= distance { return nil }
    guard waiting <= size else { throw .overrun(waiting) }
    let slot = Int((nextAvailable &+ distance) & (size - 1))
    let head = available.field(UInt16.self, at: 4 + 2 * slot).pointee.load(ordering: .relaxed)
    return try chain(head, storage: storage, room: room)
  }

  /// How many requests there can be at a time.
  var capacity: UInt16 { size }

  private struct Descriptor {
    let address: UInt64
    let length: UInt32
    let flags: UInt16
    let next: UInt16

    /// Two loads, each of a half that is loaded once.
    init(at pointer: UnsafeMutableRawPointer, isAligned: Bool) {
      let low: UInt64
      let high: UInt64
      if isAligned {
        low = pointer.field(UInt64.self, at: 0).pointee.load(ordering: .relaxed)
        high = pointer.field(UInt64.self, at: 8).pointee.load(ordering: .relaxed)
      } else {
        low = pointer.loadUnaligned(fromByteOffset: 0, as: UInt64.self)
        high = pointer.loadUnaligned(fromByteOffset: 8, as: UInt64.self)
      }
      address = low
      length = UInt32(truncatingIfNeeded: high)
      flags = UInt16(truncatingIfNeeded: high >> 32)
      next = UInt16(truncatingIfNeeded: high >> 48)
    }
  }

  private func chain(
    _ head: UInt16, storage: UnsafeMutablePointer<iovec>, room: Int
  ) throws(VirtioFault) -> DescriptorChain {
    var table = descriptors
    var entries = Int(size)
    var isIndirect = false
    var isAligned = true
    var index = head
    var steps = 0
    var count = 0
    var readableCount = 0
    var readableBytes: UInt64 = 0
    var bytes: UInt64 = 0
    while true {
      guard Int(index) < entries else { throw .indexOutOfRange(index) }
      guard steps < entries else { throw .chainTooLong }
      steps += 1
      let descriptor = Descriptor(at: table + 16 * Int(index), isAligned: isAligned)
      if descriptor.flags & Flag.indirect != 0 {
        guard allowsIndirect, !isIndirect, descriptor.flags & Flag.next == 0, descriptor.length > 0,
          descriptor.length % 16 == 0, descriptor.length / 16 <= 1 << 16
        else { throw .unusableIndirectTable }
        table = try host(descriptor)
        isAligned = descriptor.address % 8 == 0
        entries = Int(descriptor.length / 16)
        isIndirect = true
        index = 0
        steps = 0
        continue
      }
      let isWritable = descriptor.flags & Flag.write != 0
      if descriptor.length > 0 {
        guard isWritable || readableCount == count else { throw .readableAfterWritable }
        guard count < room else { throw .chainTooLong }
        storage[count] = iovec(iov_base: try host(descriptor), iov_len: Int(descriptor.length))
        count += 1
        bytes += UInt64(descriptor.length)
        guard bytes <= UInt32.max else { throw .chainTooLong }
        if !isWritable {
          readableCount = count
          readableBytes = bytes
        }
      }
      guard descriptor.flags & Flag.next != 0 else { break }
      index = descriptor.next
    }
    return DescriptorChain(
      head: head,
      readable: BufferList(pointer: storage, count: readableCount, byteCount: Int(readableBytes)),
      writable: BufferList(
        pointer: storage + readableCount, count: count - readableCount, byteCount: Int(bytes - readableBytes)))
  }

  private func host(_ descriptor: Descriptor) throws(VirtioFault) -> UnsafeMutableRawPointer {
    let address = GuestPhysicalAddress(descriptor.address)
    guard let pointer = memory.host(address, count: UInt64(descriptor.length)) else {
      throw .bufferOutsideMemory(address, descriptor.length)
    }
    return pointer
  }

  // MARK: To the driver

  /// Gives the request back.
  /// - Parameters:
  ///   - head: the one that `next` gave last.
  ///   - written: bytes stored to its writable part.
  mutating func complete(_ head: UInt16, written: UInt32) {
    use(head, written: written)
    publishUsed()
  }

  /// Gives the next request back, of which the driver hears when `publishUsed` follows.
  mutating func use(_ head: UInt16, written: UInt32) {
    nextAvailable &+= 1
    let entry = 4 + 8 * Int(nextUsed & (size - 1))
    used.field(UInt32.self, at: entry).pointee.store(UInt32(head), ordering: .relaxed)
    used.field(UInt32.self, at: entry + 4).pointee.store(written, ordering: .relaxed)
    nextUsed &+= 1
  }

  /// The driver can see all that was given back.
  func publishUsed() { used.field(UInt16.self, at: 2).pointee.store(nextUsed, ordering: .releasing) }

  /// Whether the driver wants to be told of what was completed since this last said so.
  mutating func takeInterruptWish() -> Bool {
    guard nextUsed != interruptedAt else { return false }
    atomicMemoryFence(ordering: .sequentiallyConsistent)
    if usesEventIndex {
      let event = available.field(UInt16.self, at: 4 + 2 * Int(size)).pointee.load(ordering: .relaxed)
      // Whether the index went past the event (virtio 1.2, 2.7.7.2).
      guard nextUsed &- event &- 1 < nextUsed &- interruptedAt else { return false }
    } else if available.field(UInt16.self, at: 0).pointee.load(ordering: .relaxed) & Flag.noInterrupt != 0 {
      return false
    }
    interruptedAt = nextUsed
    return true
  }

  /// While requests are being handled the driver need not tell of more.
  mutating func suppressNotifications() {
    guard !suppressesNotifications else { return }
    suppressesNotifications = true
    // With event indices the last index asked for simply stays behind.
    if !usesEventIndex { used.field(UInt16.self, at: 0).pointee.store(Flag.noNotification, ordering: .relaxed) }
  }

  /// Asks the driver to tell of the next request.
  /// - Parameter count: how many are there and don't suffice.
  /// - Returns: whether one came meanwhile, of which it will not tell.
  mutating func requestNotification(behind count: UInt16 = 0) -> Bool {
    suppressesNotifications = false
    if usesEventIndex {
      used.field(UInt16.self, at: 4 + 8 * Int(size)).pointee.store(nextAvailable &+ count, ordering: .relaxed)
    } else {
      used.field(UInt16.self, at: 0).pointee.store(0, ordering: .relaxed)
    }
    atomicMemoryFence(ordering: .sequentiallyConsistent)
    return available.field(UInt16.self, at: 2).pointee.load(ordering: .relaxed) != nextAvailable &+ count
  }
}

extension UnsafeMutableRawPointer {
  /// A field of a structure shared with the guest; little-endian as the host is. Must be aligned to its size.
  fileprivate func field<Value: AtomicRepresentable>(
    _ type: Value.Type, at offset: Int
  ) -> UnsafeMutablePointer<Atomic<Value>> {
    (self + offset).assumingMemoryBound(to: Atomic<Value>.self)
  }
}
