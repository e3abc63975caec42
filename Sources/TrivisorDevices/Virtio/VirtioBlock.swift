// A virtio disk (virtio 1.2, 5.2).
//
// A request is a header that says what and where, data in one direction, and a status byte; how they are cut into
// buffers means nothing. A request that lacks header or status byte can't even be answered: that breaks the device. All
// else that is wrong with one is answered with a status.
//
// What is safe from the host's death is the driver's to say (5.2.6.2): it flushes; or it can't, or has set `writeback` to
// zero, and then every write is flushed before it is answered. A flush covers all that was answered before it came, on
// whichever queue, since a write is the host's before it is answered.

import Synchronization
import TrivisorVMM

/// A disk.
public final class VirtioBlock: VirtioDevice {
  /// Bytes of the serial number that a guest can ask for.
  public static let identifierLength = 20
  /// The most queues of a disk.
  public static let queueLimit = 16
  private static let writeBackOffset: UInt64 = 32

  private enum Feature {
    static let segmentMaximum = VirtioFeatures.bit(2)
    static let readOnly = VirtioFeatures.bit(5)
    static let blockSize = VirtioFeatures.bit(6)
    static let flush = VirtioFeatures.bit(9)
    static let configurableCache = VirtioFeatures.bit(11)
    static let severalQueues = VirtioFeatures.bit(12)
    static let discard = VirtioFeatures.bit(13)
    static let writeZeroes = VirtioFeatures.bit(14)
  }

  private enum RequestType {
    static let read: UInt32 = 0
    static let write: UInt32 = 1
    static let flush: UInt32 = 4
    static let getIdentifier: UInt32 = 8
    static let discard: UInt32 = 11
    static let writeZeroes: UInt32 = 13
  }

  private enum Status: UInt8 {
    case ok = 0
    case ioError = 1
    case unsupported = 2
  }

  private static let queueSize: UInt16 = 256
  /// Data buffers of a request: what is left of a full queue beside header and status.
  private static let segmentMaximum = UInt32(queueSize) - 2
  /// Sectors of one range to discard or clear: 2 GiB.
  private static let rangeMaximum: UInt32 = 1 << 22
  private static let rangeCountMaximum: UInt32 = 16

  private let image: DiskImage
  private let identifier: [UInt8]
  private let space: [UInt8]
  /// A driver that can't flush must be able to rely on what was written.
  private let writesThrough = Atomic<Bool>(true)
  private let hasConfigurableCache = Atomic<Bool>(false)

  /// - Parameters:
  ///   - image: what is on the disk.
  ///   - identifier: the serial number, cut to `identifierLength` bytes of UTF-8.
  ///   - queueCount: 1 to `queueLimit`: so many requests are carried out at a time, each queue's on a thread of its own.
  public init(_ image: DiskImage, identifier: String, queueCount: Int = 1) {
    self.image = image
    let queues = min(max(queueCount, 1), Self.queueLimit)
    queueSizes = Array(repeating: Self.queueSize, count: queues)
    let text = Array(identifier.utf8.prefix(Self.identifierLength))
    self.identifier = text + Array(repeating: 0, count: Self.identifierLength - text.count)
    space = Self.configurationSpace(image, queues: queues)
  }

  /// Block.
  public let deviceID = VirtioDeviceID.block
  /// Request queues.
  public let queueSizes: [UInt16]
  /// So that a slow request holds up only those of its queue.
  public var threads: [VirtioThread] { queueSizes.indices.map { VirtioThread([$0]) } }

  /// Flushes, and what the image allows.
  public var features: VirtioFeatures {
    var common: VirtioFeatures = [
      Feature.segmentMaximum, Feature.blockSize, Feature.flush, Feature.configurableCache,
    ]
    if queueSizes.count > 1 { common.insert(Feature.severalQueues) }
    return common.union(image.isReadOnly ? [Feature.readOnly] : [Feature.discard, Feature.writeZeroes])
  }

  private static func configurationSpace(_ image: DiskImage, queues: Int) -> [UInt8] {
    // 0: capacity in sectors; no limit of a segment's size; segments.
    var space = littleEndian(image.sectorCount, count: 8) + littleEndian(0, count: 4)
    space += littleEndian(UInt64(segmentMaximum), count: 4)
    // 16: no geometry; block size; no topology; the cache mode, told apart; queues.
    space += littleEndian(0, count: 4) + littleEndian(UInt64(DiskImage.sectorSize), count: 4)
    space += littleEndian(0, count: 8) + [0, 0] + littleEndian(UInt64(queues), count: 2)
    // 36: discard: sectors, ranges, alignment. 48: write zeroes: sectors, ranges, may free.
    space += littleEndian(UInt64(rangeMaximum), count: 4) + littleEndian(UInt64(rangeCountMaximum), count: 4)
    space += littleEndian(1, count: 4)
    space += littleEndian(UInt64(rangeMaximum), count: 4) + littleEndian(UInt64(rangeCountMaximum), count: 4)
    return space + [1, 0, 0, 0]
  }

  /// Capacity and limits.
  public func configuration(at offset: UInt64) -> UInt8 {
    if offset == Self.writeBackOffset { return writesThrough.load(ordering: .acquiring) ? 0 : 1 }
    return offset < UInt64(space.count) ? space[Int(offset)] : 0
  }

  /// The cache mode.
  public func writeConfiguration(_ value: UInt64, at offset: UInt64, width: AccessWidth) {
    guard offset == Self.writeBackOffset, width == .byte, hasConfigurableCache.load(ordering: .acquiring) else {
      return
    }
    writesThrough.store(value & 1 == 0, ordering: .releasing)
  }

  /// Nothing to keep.
  public func attach(to host: VirtioHost) {}

  /// Notes whether the driver flushes. Drivers read the cache mode before they are ready.
  public func agree(on features: VirtioFeatures) {
    writesThrough.store(!features.contains(Feature.flush), ordering: .releasing)
    hasConfigurableCache.store(features.contains(Feature.configurableCache), ordering: .releasing)
  }

  /// Nothing more than was agreed on.
  public func start(features: VirtioFeatures) {}

  /// Requests leave nothing behind.
  public func reset() {
    writesThrough.store(true, ordering: .releasing)
    hasConfigurableCache.store(false, ordering: .releasing)
  }

  /// Handles requests.
  public func process(_ queue: VirtioQueue) {
    queue.drain { answer(&$0) }
  }

  // MARK: Requests

  private struct Header {
    var type: UInt32 = 0
    var reserved: UInt32 = 0
    var sector: UInt64 = 0
  }

  private struct Range {
    var sector: UInt64 = 0
    var count: UInt32 = 0
    var flags: UInt32 = 0
  }

  private func answer(_ chain: inout DescriptorChain) -> VirtioQueue.Disposition {
    var header = Header()
    guard withUnsafeMutableBytes(of: &header, { chain.readable.read(into: $0) }),
      let statusByte = chain.writable.removeLast()
    else { return .malformed }
    let room = chain.writable.byteCount
    let (status, written) = execute(header, &chain)
    statusByte.storeBytes(of: status.rawValue, as: UInt8.self)
    // What was written is a prefix; the status byte belongs to it only behind data that fill all the room.
    return .completed(written: UInt32(truncatingIfNeeded: written == room ? written + 1 : written))
  }

  /// - Returns: the status, and how many bytes of data were stored to the guest.
  private func execute(_ header: Header, _ chain: inout DescriptorChain) -> (Status, written: Int) {
    switch header.type {
    case RequestType.read:
      let count = chain.writable.byteCount
      guard image.read(header.sector, into: &chain.writable) == nil else {
        return (.ioError, count - chain.writable.byteCount)
      }
      return (.ok, count)
    case RequestType.write:
      guard !image.isReadOnly, image.write(header.sector, from: &chain.readable) == nil, settle() else {
        return (.ioError, 0)
      }
      return (.ok, 0)
    case RequestType.flush:
      return (image.flush() == nil ? .ok : .ioError, 0)
    case RequestType.getIdentifier:
      return (.ok, identifier.withUnsafeBytes { chain.writable.write($0) })
    case RequestType.discard, RequestType.writeZeroes:
      if image.isReadOnly { return (.ioError, 0) }
      return (changeRanges(&chain, clears: header.type == RequestType.writeZeroes), 0)
    default:
      return (.unsupported, 0)
    }
  }

  private func settle() -> Bool {
    !writesThrough.load(ordering: .acquiring) || image.flush() == nil
  }

  private func changeRanges(_ chain: inout DescriptorChain, clears: Bool) -> Status {
    let stride = MemoryLayout<Range>.size
    let count = chain.readable.byteCount / stride
    guard count > 0, count <= Int(Self.rangeCountMaximum), chain.readable.byteCount % stride == 0 else {
      return .ioError
    }
    for _ in 0..<count {
      var range = Range()
      guard withUnsafeMutableBytes(of: &range, { chain.readable.read(into: $0) }) else { return .ioError }
      // Bit 0, "unmap", belongs to clearing.
      guard range.flags & ~(clears ? 1 : 0) == 0 else { return .unsupported }
      guard range.count <= Self.rangeMaximum else { return .ioError }
      let error =
        clears
        ? image.clear(range.sector, count: UInt64(range.count), frees: range.flags & 1 != 0)
        : image.discard(range.sector, count: UInt64(range.count))
      if error != nil { return .ioError }
    }
    return settle() ? .ok : .ioError
  }
}

extension VirtioBlock {
  /// Which disk it is. What is on it is not in here: whoever keeps a machine keeps its disks as they were.
  public struct Saved: SavedState {
    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    public static let version = 2
    var sectorCount: UInt64
    var isReadOnly: Bool
    var identifier: [UInt8]
    var writesThrough: Bool
  }

  /// Whether the driver may set the cache mode comes with its features.
  public func save() -> VirtioDeviceState {
    .block(
      Saved(
        sectorCount: image.sectorCount, isReadOnly: image.isReadOnly, identifier: identifier,
        writesThrough: writesThrough.load(ordering: .acquiring)))
  }

  /// - Throws: `RestoreFailure` for another disk's.
  public func restore(_ saved: VirtioDeviceState, features: VirtioFeatures?) throws(RestoreFailure) -> Bool {
    guard case .block(let disk) = saved else { throw RestoreFailure("disk", "it is another device's") }
    try restoring(
      "disk",
      requires: disk.sectorCount == image.sectorCount && disk.isReadOnly == image.isReadOnly
        && disk.identifier == identifier,
      "it was of \(disk.sectorCount) sectors\(disk.isReadOnly ? ", read-only" : ""), and this is of \(image.sectorCount)"
        + "\(image.isReadOnly ? ", read-only" : ""), or has another serial number")
    reset()
    guard let features else { return false }
    agree(on: features)
    // Where the driver can't set it, it is what its features make it.
    if features.contains(Feature.configurableCache) { writesThrough.store(disk.writesThrough, ordering: .releasing) }
    return false
  }
}
