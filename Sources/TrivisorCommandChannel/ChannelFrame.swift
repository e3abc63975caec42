// What goes over the command channel, in both directions: frames, one behind the other, over a line that loses nothing.
//
//     kind (1 byte) | stream (1) | length of the contents (2, little-endian) | contents (up to 4096)
//
// The stream byte's low two bits are the stream, the others the command's number: number 0 is the one for which the machine is
// there, the others come and go while it runs, each with an order of its own. Orders come one after the other, never mixed.
//
//     guest                                 host
//       │ hello: "TRIVISOR", version, window  │   whatever came before it on the line is skipped
//       │ ───────────────────────────────────▶│
//       │◀─────────────── order … order, start│   as much as the guest's credit for stream `order` allows
//       │◀──────── credit for output and error│
//       │◀──────────────────── data, end: input│   as much as the guest's credit for stream `input` allows
//       │ data: output, error; credit ────────▶│   as much as the host's credit allows
//       │ end: input: nobody reads it any more ▶│
//       │ status, or refusal ─────────────────▶│   the last frame of this command: its number can be given to another
//
// Each stream has a window of its own: who receives grants credit in bytes, and who sends never sends more than that. So
// every frame can be taken off the line at once, and a stream that is blocked holds up no other one.
//
// The other half is the first process of Linux guests, guests/linux/.

/// What a frame is for. The raw value is its first byte.
public enum ChannelFrameKind: UInt8, Sendable, CaseIterable {
  /// From the guest: the word that opens the channel, the version (4 bytes), the window of `input` and `order` (4 bytes).
  case hello = 1
  /// To the guest: a part of the order.
  case order = 2
  /// To the guest: the order is complete.
  case start = 3
  /// A part of a stream.
  case data = 4
  /// To the guest: the input ends here, or nobody takes the output. From the guest: nobody reads the input.
  case end = 5
  /// The receiver of a stream takes so many bytes more (4 bytes).
  case credit = 6
  /// To the guest: the terminal's columns and rows (2 bytes each).
  case size = 7
  /// From the guest: how the command ended, `CommandStatus`.
  case status = 8
  /// From the guest: why the command can't be run, a sentence.
  case refusal = 9
  /// To the guest: the command gets this signal (1 byte, Linux' number).
  case signal = 10
  /// On a named guest's socket only: a question to who runs the guest, as text, in the place of an order.
  case question = 11
  /// The answer, as text.
  case answer = 12
}

/// Streams of the command channel. The raw value is in a frame's second byte.
public enum ChannelStream: UInt8, Sendable, CaseIterable {
  /// The command's standard input.
  case input = 0
  /// Its standard output, or its terminal's.
  case output = 1
  /// Its standard error output.
  case error = 2
  /// The order.
  case order = 3

  /// Bits of a frame's second byte.
  static let width = 2
}

/// One frame.
public struct ChannelFrame: Sendable, Equatable {
  /// Bytes of kind, stream and length.
  public static let headSize = 4
  /// No frame's contents are longer.
  public static let contentLimit = 4096
  /// How a hello begins.
  public static let greeting = Array("TRIVISOR".utf8)
  /// Of this protocol; raised when a guest of the old one can't be served any more.
  public static let version: UInt32 = 1
  /// So many commands at a time, the first one included.
  public static let sessionLimit = 32

  /// What it is for.
  public var kind: ChannelFrameKind
  /// The number of the command that it belongs to.
  public var session = 0
  /// The stream that it belongs to; `input` where there is none.
  public var stream: ChannelStream
  /// At most `contentLimit` bytes.
  public var contents: [UInt8]

  /// - Parameters:
  ///   - contents: at most `contentLimit` bytes.
  ///   - session: below `sessionLimit`.
  public init(
    _ kind: ChannelFrameKind, _ stream: ChannelStream = .input, _ contents: [UInt8] = [], session: Int = 0
  ) {
    self.kind = kind
    self.session = session
    self.stream = stream
    self.contents = contents
  }

  /// The guest's first frame.
  public static func hello(version: UInt32 = version, window: UInt32) -> ChannelFrame {
    ChannelFrame(.hello, .input, greeting + littleEndian(version) + littleEndian(window))
  }

  /// So many bytes more.
  public static func credit(_ stream: ChannelStream, _ count: UInt32, session: Int = 0) -> ChannelFrame {
    ChannelFrame(.credit, stream, littleEndian(count), session: session)
  }

  /// As it goes over the line.
  public var bytes: [UInt8] {
    let count = UInt16(clamping: contents.count)
    let place = stream.rawValue | UInt8(truncatingIfNeeded: session << ChannelStream.width)
    return [kind.rawValue, place, UInt8(truncatingIfNeeded: count), UInt8(truncatingIfNeeded: count >> 8)]
      + contents.prefix(Int(count))
  }

  /// Four bytes of the contents as a number; `nil` where there are none.
  public func number(at offset: Int) -> UInt32? {
    guard offset >= 0, offset + 4 <= contents.count else { return nil }
    return (0..<4).reduce(0) { $0 | UInt32(contents[offset + $1]) << UInt32(8 * $1) }
  }

  private static func littleEndian(_ value: UInt32) -> [UInt8] {
    (0..<4).map { UInt8(truncatingIfNeeded: value >> UInt32(8 * $0)) }
  }
}
