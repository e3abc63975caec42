import Glibc
import SystemPackage
import TrivisorDevices
import TrivisorVMM

/// A disk of sixteen sectors.
final class BlockSubject: FuzzSubject {
  enum Kind {
    case writable, readOnly
    /// Changes apart from the image, and several queues.
    case snapshot
  }

  private static let size = 16 * 512
  /// VIRTIO_BLK_F_FLUSH, _CONFIG_WCE, _MQ, _DISCARD, _WRITE_ZEROES (virtio 1.2, 5.2.3).
  private static let flush = VirtioFeatures.bit(9), cache = VirtioFeatures.bit(11), queues = VirtioFeatures.bit(12)
  private static let discard = VirtioFeatures.bit(13), zeroes = VirtioFeatures.bit(14)
  /// Kinds of requests (5.2.6).
  private enum Order {
    static let read: UInt32 = 0, write: UInt32 = 1, flush: UInt32 = 4, identifier: UInt32 = 8
    static let discard: UInt32 = 11, zeroes: UInt32 = 13
    static let ranges = [discard, zeroes]
    static let all = [read, write, write, flush, identifier, discard, zeroes]
  }

  private let folder: FuzzFolder
  private let kind: Kind
  let device: any VirtioDevice
  let memory: GuestMemory

  init(_ kind: Kind) throws {
    self.kind = kind
    // Without waiting for a disk of the host's at each flush, where the host has such a folder.
    folder = try FuzzFolder(in: access("/dev/shm", W_OK) == 0 ? "/dev/shm" : nil)
    try folder.put("disk", [UInt8](repeating: 0, count: Self.size))
    let image = try DiskImage(
      path: folder.path.appending("disk"), isReadOnly: kind == .readOnly,
      changes: kind == .snapshot ? DiskChanges() : nil)
    device = VirtioBlock(image, identifier: "fuzz", queueCount: kind == .snapshot ? 3 : 1)
    memory = try GuestMemory(size: RandomGuest.memorySize)
  }

  var features: VirtioFeatures {
    switch kind {
    case .writable: [Self.flush, Self.cache, Self.discard, Self.zeroes]
    case .readOnly: [Self.flush, Self.cache]
    case .snapshot: [Self.flush, Self.cache, Self.queues, Self.discard, Self.zeroes]
    }
  }

  func request(queue: Int, _ random: inout FuzzRandom) -> FuzzRequest? {
    var bytes = FuzzBytes()
    let order = random.chance(10) ? UInt32(truncatingIfNeeded: random.next()) : random.pick(Order.all)
    bytes.put(order)
    bytes.put(UInt32(0))
    bytes.put(random.chance(8) ? random.next() : random.number(below: 20 as UInt64))
    guard Order.ranges.contains(order) else { return FuzzRequest(bytes: bytes.bytes) }
    // Sector, sectors, flags.
    for _ in 0..<random.number(below: 18) {
      bytes.put(random.chance(8) ? random.next() : random.number(below: 17 as UInt64))
      bytes.put(UInt32(random.chance(8) ? random.number(below: 1 << 32 as UInt64) : random.number(below: 18)))
      bytes.put(UInt32(random.chance(8) ? random.number(below: 4) : random.number(below: 2)))
    }
    return FuzzRequest(bytes: bytes.bytes, isWhole: !random.chance(8))
  }

  func check() throws {
    let file = try FileDescriptor.open(folder.path.appending("disk"), .readOnly)
    let content = try file.closeAfter {
      try [UInt8](unsafeUninitializedCapacity: 2 * Self.size) { buffer, count in
        count = try file.read(into: UnsafeMutableRawBufferPointer(buffer))
      }
    }
    try FuzzFinding.require(content.count == Self.size, "the image has another size")
    let isUntouched = content.allSatisfy { $0 == 0 }
    try FuzzFinding.require(
      kind == .writable || isUntouched, "an image that is not to be written to was")
  }
}
