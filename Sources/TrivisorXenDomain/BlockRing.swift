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
