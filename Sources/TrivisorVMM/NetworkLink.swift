// What a network device of a guest is plugged into. The device knows frames and the guest's memory, the link knows frames
// and the host: a socket, a tap interface.
//
//     guest ── VirtioNetwork ── NetworkLink ── passt, another guest, the host's kernel

/// What the sender of a frame leaves to its receiver. Each side may do so only as far as the other has agreed.
public struct NetworkOffloads: OptionSet, Sendable, Hashable {
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public let rawValue: UInt8
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public init(rawValue: UInt8) { self.rawValue = rawValue }

  /// A TCP or UDP checksum.
  public static let checksums = NetworkOffloads(rawValue: 1)
  /// TCP segments over IPv4 that are longer than a frame can be.
  public static let segments4 = NetworkOffloads(rawValue: 2)
  /// The same over IPv6.
  public static let segments6 = NetworkOffloads(rawValue: 4)
  /// The same with explicit congestion notification.
  public static let congestion = NetworkOffloads(rawValue: 8)
}

/// What comes with a frame: what is left to do about it (virtio 1.2, 5.1.6: `struct virtio_net_hdr`). Offsets count from the
/// frame's first byte. Whoever takes one from a guest can't trust it.
public struct NetworkFrameHeader: Sendable, Equatable {
  /// Of `flags`.
  public enum Flag {
    /// The checksum is to be completed: over all from `checksumStart` on, stored at `checksumOffset` behind that.
    public static let needsChecksum: UInt8 = 1
    /// Checksums are known to be right.
    public static let dataIsValid: UInt8 = 2
  }

  /// Of `segmentation`.
  public enum Segmentation {
    /// A frame like any other.
    public static let none: UInt8 = 0
    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    public static let tcp4: UInt8 = 1
    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    public static let tcp6: UInt8 = 4
    /// A bit beside one of the others.
    public static let congestion: UInt8 = 0x80
  }

  /// Bytes of it in front of a frame, with the number of buffers at the end.
  public static let size = 12

  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public var flags: UInt8 = 0
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public var segmentation: UInt8 = 0
  /// Bytes of Ethernet, IP and TCP headers: a hint.
  public var headerLength: UInt16 = 0
  /// Bytes of data a segment.
  public var segmentSize: UInt16 = 0
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public var checksumStart: UInt16 = 0
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public var checksumOffset: UInt16 = 0

  /// Nothing is left to do.
  public init() {}

  /// - Parameter bytes: at least `size`.
  public init?(_ bytes: UnsafeRawBufferPointer) {
    guard bytes.count >= Self.size else { return nil }
    (flags, segmentation) = (bytes[0], bytes[1])
    headerLength = bytes.loadUnaligned(fromByteOffset: 2, as: UInt16.self)
    segmentSize = bytes.loadUnaligned(fromByteOffset: 4, as: UInt16.self)
    checksumStart = bytes.loadUnaligned(fromByteOffset: 6, as: UInt16.self)
    checksumOffset = bytes.loadUnaligned(fromByteOffset: 8, as: UInt16.self)
  }

  /// - Parameters:
  ///   - bytes: at least `size`.
  ///   - bufferCount: of buffers that the frame lies in.
  public func store(to bytes: UnsafeMutableRawBufferPointer, bufferCount: UInt16 = 0) {
    guard bytes.count >= Self.size else { return }
    (bytes[0], bytes[1]) = (flags, segmentation)
    for (index, value) in [headerLength, segmentSize, checksumStart, checksumOffset, bufferCount].enumerated() {
      bytes.storeBytes(of: value, toByteOffset: 2 + 2 * index, as: UInt16.self)
    }
  }

  /// What a receiver must be able to do to take such a frame; `nil` if no receiver can.
  public var demands: NetworkOffloads? {
    var demands: NetworkOffloads = flags & Flag.needsChecksum != 0 ? .checksums : []
    switch segmentation & ~Segmentation.congestion {
    case Segmentation.none: return segmentation == 0 ? demands : nil
    case Segmentation.tcp4: demands.insert(.segments4)
    case Segmentation.tcp6: demands.insert(.segments6)
    default: return nil
    }
    if segmentation & Segmentation.congestion != 0 { demands.insert(.congestion) }
    return demands
  }
}

/// A network interface of a domain.
public struct NetworkInterface: Sendable {
  /// What it is plugged into.
  public let link: any NetworkLink
  /// Its own.
  public let address: MACAddress

  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public init(_ link: any NetworkLink, address: MACAddress) {
    self.link = link
    self.address = address
  }
}

/// Where frames of a guest go, and where frames for it come from. Nothing here waits. Any thread may call, but a device's calls
/// for frames come one after the other.
public protocol NetworkLink: AnyObject, Sendable {
  /// What it takes over for the guest, and what it would leave to the guest.
  var offloads: NetworkOffloads { get }
  /// The longest packet that a frame can carry, without the Ethernet header.
  var maximumTransferUnit: UInt16 { get }
  /// Whether the checksums of what comes are right in any case.
  var deliversValidChecksums: Bool { get }
  /// Whether there is somebody at the other end.
  var isUp: Bool { get }

  /// Readable when there is something to do: frames have come, there is room for more, the other end has come or gone.
  var eventDescriptor: Int32 { get }
  /// Does what there is to do beside handing over frames.
  func settle()
  /// Whether frames that come are something to do. At first they are not.
  func setWantsFrames(_ wants: Bool)
  /// Of links that lead to the same place, which of them frames come over. When one has been told that it doesn't take part, it
  /// hands over none, and what was for it comes over the others. A link by itself always takes part.
  func setTakesPart(_ takesPart: Bool)

  /// The guest takes frames of which so much is left to do; before, none.
  func setGuestOffloads(_ offloads: NetworkOffloads)

  /// Takes a frame of the guest's. One that can't be sent is lost, as frames are.
  /// - Returns: whether it was taken; if not, `eventDescriptor` tells when there is room.
  func send(_ frame: inout BufferList, _ header: NetworkFrameHeader) -> Bool

  /// Hands over frames that have come, as many as there are or `take` takes; one that it refuses comes again.
  /// - Parameter take: must not use this link.
  func receive(_ take: (UnsafeRawBufferPointer, NetworkFrameHeader) -> Bool)

  /// Ends it, and what stands behind it.
  func close()
}

extension NetworkLink {
  /// It is by itself.
  public func setTakesPart(_ takesPart: Bool) {}
}
