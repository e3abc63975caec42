/// Takes the guest's frames from the line, a byte at a time. The guest is hostile: whatever comes, the result is a frame,
/// nothing yet, or a `Fault`, and never more memory than one frame.
public struct ChannelFrameReader: Sendable {
  /// What is on the line is no frame. Nothing after it can be understood.
  public struct Fault: Error, Sendable, Equatable, CustomStringConvertible {
    /// One sentence.
    public let description: String

    /// - Parameter description: one sentence.
    public init(description: String) { self.description = description }
  }

  /// What a hello begins with, head included.
  private static let opening: [UInt8] = ChannelFrame.hello(window: 0).bytes.dropLast(8)

  private var isOpen = false
  /// Before the hello: how much of `opening` was just seen. Afterwards: the frame's head and contents so far.
  private var bytes: [UInt8] = []
  private var contentCount = 0
  /// From then on nothing is understood, nor kept.
  private var fault: Fault?

  /// - Parameter waitsForHello: whether what comes before a hello is skipped, as on the guest's line. Who is greeted does not greet.
  public init(waitsForHello: Bool = true) {
    isOpen = !waitsForHello
    bytes.reserveCapacity(ChannelFrame.headSize + ChannelFrame.contentLimit)
  }

  /// Takes the next byte of the line.
  /// - Returns: the frame that it completes, if it does.
  /// - Throws: `Fault` where no frame can begin so.
  public mutating func take(_ byte: UInt8) throws(Fault) -> ChannelFrame? {
    if let fault { throw fault }
    do throws(Fault) {
      return try takeNext(byte)
    } catch {
      fault = error
      bytes = []
      throw error
    }
  }

  private mutating func takeNext(_ byte: UInt8) throws(Fault) -> ChannelFrame? {
    if !isOpen {
      lookForOpening(byte)
      return nil
    }
    bytes.append(byte)
    if bytes.count < ChannelFrame.headSize { return nil }
    if bytes.count == ChannelFrame.headSize {
      contentCount = Int(bytes[2]) | Int(bytes[3]) << 8
      guard contentCount <= ChannelFrame.contentLimit else {
        throw Fault(description: "a frame of \(contentCount) bytes came")
      }
    }
    guard bytes.count == ChannelFrame.headSize + contentCount else { return nil }
    let session = Int(bytes[1] >> ChannelStream.width)
    guard let kind = ChannelFrameKind(rawValue: bytes[0]), session < ChannelFrame.sessionLimit,
      let stream = ChannelStream(rawValue: bytes[1] & (1 << ChannelStream.width - 1))
    else { throw Fault(description: "a frame of kind \(bytes[0]) for stream \(bytes[1]) came") }
    let frame = ChannelFrame(kind, stream, Array(bytes[ChannelFrame.headSize...]), session: session)
    bytes.removeAll(keepingCapacity: true)
    return frame
  }

  /// Kernels and firmware may have written to the line before.
  private mutating func lookForOpening(_ byte: UInt8) {
    bytes.append(byte)
    // The longest end of what came that `opening` begins with: its first byte is nowhere else in it.
    if !Self.opening.starts(with: bytes) {
      bytes.removeAll(keepingCapacity: true)
      if byte == Self.opening.first { bytes.append(byte) }
    }
    guard bytes.count == Self.opening.count else { return }
    isOpen = true
    contentCount = Int(bytes[2])
  }
}
