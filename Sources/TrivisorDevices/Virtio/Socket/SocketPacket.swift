import TrivisorVMM

/// The head of a packet (virtio 1.2, 5.10.6: `virtio_vsock_hdr`), little-endian as the host is.
struct SocketPacket: Sendable, Equatable {
  /// Bytes of it.
  static let size = 44
  /// The identifier of the host.
  static let hostIdentifier: UInt64 = 2

  /// What it is for.
  enum Operation: UInt16, Sendable {
    case request = 1
    case response = 2
    case reset = 3
    case shutdown = 4
    case data = 5
    case creditUpdate = 6
    case creditRequest = 7
  }

  /// Who sends no more, or takes no more (5.10.6.5).
  struct Ending: OptionSet, Sendable, Equatable {
    let rawValue: UInt32

    static let receiving = Ending(rawValue: 1)
    static let sending = Ending(rawValue: 2)
    static let both: Ending = [.receiving, .sending]
  }

  /// The only type that is offered: a stream.
  static let stream: UInt16 = 1

  var source: UInt64
  var destination: UInt64
  var sourcePort: UInt32
  var destinationPort: UInt32
  var length: UInt32 = 0
  var type = stream
  var operation: UInt16
  var flags: UInt32 = 0
  /// The sender's room for a connection's data, and how many bytes it has taken out of it.
  var room: UInt32 = 0
  var forwarded: UInt32 = 0

  /// From the device.
  init(_ operation: Operation, to guest: UInt64, guestPort: UInt32, hostPort: UInt32) {
    self.operation = operation.rawValue
    (source, sourcePort) = (Self.hostIdentifier, hostPort)
    (destination, destinationPort) = (guest, guestPort)
  }

  /// From the driver; `nil` unless there are enough bytes.
  init?(_ list: inout BufferList) {
    let read: SocketPacket? = withUnsafeTemporaryAllocation(byteCount: Self.size, alignment: 8) { bytes in
      guard list.read(into: bytes) else { return nil }
      return SocketPacket(UnsafeRawBufferPointer(bytes))
    }
    guard let read else { return nil }
    self = read
  }

  private init(_ bytes: UnsafeRawBufferPointer) {
    source = bytes.loadUnaligned(fromByteOffset: 0, as: UInt64.self)
    destination = bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self)
    sourcePort = bytes.loadUnaligned(fromByteOffset: 16, as: UInt32.self)
    destinationPort = bytes.loadUnaligned(fromByteOffset: 20, as: UInt32.self)
    length = bytes.loadUnaligned(fromByteOffset: 24, as: UInt32.self)
    type = bytes.loadUnaligned(fromByteOffset: 28, as: UInt16.self)
    operation = bytes.loadUnaligned(fromByteOffset: 30, as: UInt16.self)
    flags = bytes.loadUnaligned(fromByteOffset: 32, as: UInt32.self)
    room = bytes.loadUnaligned(fromByteOffset: 36, as: UInt32.self)
    forwarded = bytes.loadUnaligned(fromByteOffset: 40, as: UInt32.self)
  }

  /// Stores it to the room that `BufferList.takeFirst(size)` gave.
  func store(to pieces: [UnsafeMutableRawBufferPointer]) {
    withUnsafeTemporaryAllocation(byteCount: Self.size, alignment: 8) { bytes in
      bytes.storeBytes(of: source, toByteOffset: 0, as: UInt64.self)
      bytes.storeBytes(of: destination, toByteOffset: 8, as: UInt64.self)
      bytes.storeBytes(of: sourcePort, toByteOffset: 16, as: UInt32.self)
      bytes.storeBytes(of: destinationPort, toByteOffset: 20, as: UInt32.self)
      bytes.storeBytes(of: length, toByteOffset: 24, as: UInt32.self)
      bytes.storeBytes(of: type, toByteOffset: 28, as: UInt16.self)
      bytes.storeBytes(of: operation, toByteOffset: 30, as: UInt16.self)
      bytes.storeBytes(of: flags, toByteOffset: 32, as: UInt32.self)
      bytes.storeBytes(of: room, toByteOffset: 36, as: UInt32.self)
      bytes.storeBytes(of: forwarded, toByteOffset: 40, as: UInt32.self)
      var done = 0
      for piece in pieces {
        let part = UnsafeRawBufferPointer(rebasing: bytes[done..<min(done + piece.count, bytes.count)])
        piece.copyMemory(from: part)
        done += part.count
      }
    }
  }
}
