import TrivisorCSharedWords
import TrivisorVMM

/// One of the two rings of a network interface: requests and answers in the same places, counted by four words (Xen's public
/// headers io/ring.h and io/netif.h). The domain can change all of it at any time; of each request a copy is judged.
struct NetworkRing {
  /// Requests in one page, of either kind.
  static let count: UInt32 = 256

  private enum Offset {
    static let requestProducer = 0
    static let requestEvent = 4
    static let responseProducer = 8
    static let responseEvent = 12
    static let entries = 64
  }

  /// NETTXF_… and NETRXF_…, of which the first two have their places changed.
  enum Flag {
    static let sentChecksumBlank: UInt16 = 1
    static let receivedDataIsValid: UInt16 = 1
    static let receivedChecksumBlank: UInt16 = 2
    static let more: UInt16 = 4
    static let extra: UInt16 = 8
  }

  /// A piece of a frame that the domain sends (`struct netif_tx_request`).
  struct Piece {
    let reference: UInt32
    let offset: UInt16
    let flags: UInt16
    let identifier: UInt16
    /// Of the first piece: of the whole frame.
    let size: UInt16
  }

  /// XEN_NETIF_RSP_….
  enum Status {
    static let okay: Int16 = 0
    static let error: Int16 = -1
    static let empty: Int16 = 1
  }

  let page: UnsafeMutableRawPointer
  /// Bytes of the longer of request and answer: 12 to send, 8 to receive.
  let stride: Int

  private func word(_ offset: Int) -> UnsafeMutablePointer<UInt32> {
    (page + offset).assumingMemoryBound(to: UInt32.self)
  }
  private func place(_ number: UInt32) -> UnsafeMutableRawPointer {
    page + Offset.entries + Int(number % Self.count) * stride
  }

  /// How many requests were ever made.
  var producer: UInt32 { shared_load(word(Offset.requestProducer)) }

  func piece(_ number: UInt32) -> Piece {
    let place = place(number)
    return Piece(
      reference: place.load(as: UInt32.self), offset: place.load(fromByteOffset: 4, as: UInt16.self),
      flags: place.load(fromByteOffset: 6, as: UInt16.self), identifier: place.load(fromByteOffset: 8, as: UInt16.self),
      size: place.load(fromByteOffset: 10, as: UInt16.self))
  }

  /// Whether another one follows a piece of extra information (`struct netif_extra_info`).
  func extraGoesOn(_ number: UInt32) -> Bool { place(number).load(fromByteOffset: 1, as: UInt8.self) & 1 != 0 }

  func answerSent(_ number: UInt32, _ identifier: UInt16, _ status: Int16) {
    let place = place(number)
    place.storeBytes(of: identifier, as: UInt16.self)
    place.storeBytes(of: status, toByteOffset: 2, as: Int16.self)
  }

  /// A page for what the domain receives (`struct netif_rx_request`).
  func buffer(_ number: UInt32) -> (identifier: UInt16, reference: UInt32) {
    let place = place(number)
    return (place.load(as: UInt16.self), place.load(fromByteOffset: 4, as: UInt32.self))
  }

  /// - Parameter size: bytes from the page's beginning on, or a negative status.
  func answerReceived(_ number: UInt32, _ identifier: UInt16, flags: UInt16, size: Int16) {
    let place = place(number)
    place.storeBytes(of: identifier, as: UInt16.self)
    place.storeBytes(of: 0, toByteOffset: 2, as: UInt16.self)
    place.storeBytes(of: flags, toByteOffset: 4, as: UInt16.self)
    place.storeBytes(of: size, toByteOffset: 6, as: Int16.self)
  }

  /// Shows answers.
  /// - Returns: whether the front end wants to be told.
  func publish(from old: UInt32, to new: UInt32) -> Bool {
    shared_store(word(Offset.responseProducer), new)
    return new &- shared_load(word(Offset.responseEvent)) < new &- old
  }

  /// Asks to be told of the request behind so many.
  func listen(_ count: UInt32) { shared_store(word(Offset.requestEvent), count &+ 1) }
}
