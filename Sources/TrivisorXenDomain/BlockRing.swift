import TrivisorBoot
import TrivisorCSharedWords
import TrivisorVMM

/// The ring of a disk: requests and answers in the same places, counted by four words (Xen's public headers io/ring.h and
/// io/blkif.h). The domain can change all of it at any time; of each request a copy is judged.
struct BlockRing {
  private enum Offset {
    static let requestProducer = 0
    static let requestEvent = 4
    static let responseProducer = 8
    static let responseEvent = 12
    static let entries = 64
  }

  /// Requests in one page, of either width.
  static let count: UInt32 = 32
  static let segmentLimit = 11

  /// BLKIF_OP_….
  enum Operation {
    static let read: UInt8 = 0
    static let write: UInt8 = 1
    static let writeBarrier: UInt8 = 2
    static let flush: UInt8 = 3
    static let discard: UInt8 = 5
  }

  /// BLKIF_RSP_….
  enum Status: Int16 {
    case okay = 0
    case error = -1
    case notSupported = -2
  }

  struct Segment {
    let reference: UInt32
    let first, last: UInt8
  }

  struct Request {
    let operation: UInt8
    let identifier: UInt64
    let sector: UInt64
    /// Of a discard: how many sectors.
    let sectorCount: UInt64
    /// Claimed, and may be more than there can be.
    let segmentCount: Int
    let segments: [Segment]
  }

  let page: UnsafeMutableRawPointer
  let isWide: Bool

  private var stride: Int { isWide ? 112 : 108 }
  private func word(_ offset: Int) -> UnsafeMutablePointer<UInt32> {
    (page + offset).assumingMemoryBound(to: UInt32.self)
  }
  private func place(_ number: UInt32) -> UnsafeMutableRawPointer {
    page + Offset.entries + Int(number % Self.count) * stride
  }

  /// How many requests were ever made.
  var producer: UInt32 { shared_load(word(Offset.requestProducer)) }

  func request(_ number: UInt32) -> Request {
    let place = place(number)
    let (identifier, sector, list) = isWide ? (8, 16, 24) : (4, 12, 20)
    let claimed = Int(place.load(fromByteOffset: 1, as: UInt8.self))
    return Request(
      operation: place.load(as: UInt8.self),
      identifier: place.loadUnaligned(fromByteOffset: identifier, as: UInt64.self),
      sector: place.loadUnaligned(fromByteOffset: sector, as: UInt64.self),
      sectorCount: place.loadUnaligned(fromByteOffset: list, as: UInt64.self), segmentCount: claimed,
      segments: (0..<min(claimed, Self.segmentLimit)).map { index in
        let segment = place + list + index * 8
        return Segment(
          reference: segment.loadUnaligned(as: UInt32.self), first: segment.load(fromByteOffset: 4, as: UInt8.self),
          last: segment.load(fromByteOffset: 5, as: UInt8.self))
      })
  }

  func answer(_ number: UInt32, to request: Request, _ status: Status) {
    let place = place(number)
    place.storeBytes(of: request.identifier, as: UInt64.self)
    place.storeBytes(of: request.operation, toByteOffset: 8, as: UInt8.self)
    place.storeBytes(of: status.rawValue, toByteOffset: 10, as: Int16.self)
  }

  /// Shows answers.
  /// - Returns: whether the front end wants to be told.
  func publish(from old: UInt32, to new: UInt32) -> Bool {
    shared_store(word(Offset.responseProducer), new)
    return new &- shared_load(word(Offset.responseEvent)) < new &- old
  }

  /// Asks to be told of the next request.
  func listen(_ consumer: UInt32) { shared_store(word(Offset.requestEvent), consumer &+ 1) }
}

extension Domain {
  /// Requests that are carried out before others have their turn.
  private static let requestsAtOnce = 64

  /// Carries out what is in a disk's ring.
  func serveDisk(_ index: Int) {
    guard disks.indices.contains(index), let connection = disks[index].ring, let page = frames.bytes(connection.frame)
    else { return }
    let ring = BlockRing(page: page, isWide: connection.isWide)
    var consumer = connection.consumer
    var left = Self.requestsAtOnce
    repeat {
      let start = consumer
      // A front end that claims more than fits has lost the rest.
      let count = min(ring.producer &- consumer, BlockRing.count)
      for _ in 0..<count {
        let request = ring.request(consumer)
        ring.answer(consumer, to: request, perform(request, disks[index].storage))
        consumer &+= 1
        left -= 1
      }
      disks[index].ring?.consumer = consumer
      if count > 0, ring.publish(from: start, to: consumer) { raise(connection.port) }
      ring.listen(consumer)
    } while left > 0 && ring.producer != consumer
    if ring.producer != consumer { processors[0].doorbell.ring() }
  }

  /// What was left, and what a front end asks for that tells nobody.
  func lookAtDisks() {
    for index in disks.indices {
      guard let connection = disks[index].ring, let page = frames.bytes(connection.frame),
        BlockRing(page: page, isWide: connection.isWide).producer != connection.consumer
      else { continue }
      serveDisk(index)
    }
  }

  private func perform(_ request: BlockRing.Request, _ storage: any BlockStorage) -> BlockRing.Status {
    switch request.operation {
    case BlockRing.Operation.read: return transfer(request, storage, writes: false)
    case BlockRing.Operation.write: return transfer(request, storage, writes: true)
    case BlockRing.Operation.writeBarrier:
      guard storage.synchronize(), request.segmentCount == 0 || transfer(request, storage, writes: true) == .okay else {
        return .error
      }
      return storage.synchronize() ? .okay : .error
    case BlockRing.Operation.flush:
      guard request.segmentCount == 0 || transfer(request, storage, writes: true) == .okay else { return .error }
      return storage.synchronize() ? .okay : .error
    case BlockRing.Operation.discard:
      guard !storage.isReadOnly else { return .notSupported }
      return storage.forget(request.sector, count: request.sectorCount) ? .okay : .error
    default: return .notSupported
    }
  }

  private func transfer(_ request: BlockRing.Request, _ storage: any BlockStorage, writes: Bool) -> BlockRing.Status {
    guard request.segmentCount > 0, request.segmentCount <= BlockRing.segmentLimit else { return .error }
    var sector = request.sector
    for segment in request.segments {
      // Of the eight sectors of a page.
      guard segment.first <= segment.last, segment.last < 8,
        let frame = try? grantedToUs(segment.reference, readOnly: writes), writes || tables.isWritable(frame),
        let page = frames.bytes(frame)
      else { return .error }
      let count = Int(segment.last - segment.first) + 1
      let bytes = UnsafeMutableRawBufferPointer(
        start: page + Int(segment.first) * BlockBackEnd.sectorSize, count: count * BlockBackEnd.sectorSize)
      guard writes ? storage.write(sector, from: UnsafeRawBufferPointer(bytes)) : storage.read(sector, into: bytes)
      else { return .error }
      if !writes, let start = bytes.baseAddress { frames.didStore(at: start, count: bytes.count) }
      let next = sector.addingReportingOverflow(UInt64(count))
      guard !next.overflow else { return .error }
      sector = next.partialValue
    }
    return .okay
  }
}
