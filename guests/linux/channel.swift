import CLinuxGuest

/// This end of the command channel (Sources/TrivisorCommandChannel/ChannelFrame.swift has its frames): the second serial port.
struct Channel {
  enum Kind {
    static let hello: UInt8 = 1
    static let order: UInt8 = 2
    static let start: UInt8 = 3
    static let data: UInt8 = 4
    static let end: UInt8 = 5
    static let credit: UInt8 = 6
    static let size: UInt8 = 7
    static let status: UInt8 = 8
    static let refusal: UInt8 = 9
    static let signal: UInt8 = 10
  }

  enum Stream {
    static let input: UInt8 = 0
    static let output: UInt8 = 1
    static let error: UInt8 = 2
    static let order: UInt8 = 3
  }

  /// A frame that lies in the receive buffer until the next one is asked for.
  struct Frame {
    let kind: UInt8
    /// The command that it belongs to.
    let session: Int
    let stream: UInt8
    let contents: UnsafePointer<UInt8>
    let count: Int

    func number(at offset: Int) -> Int {
      guard offset + 4 <= count else { return 0 }
      var value = 0
      for index in 0..<4 { value |= Int(contents[offset + index]) << (8 * index) }
      return value
    }
  }

  static let headSize = 4
  static let contentLimit = 4096

  /// How a command ended: 0 and its status, or 1 and the signal that killed it.
  struct Status {
    let how: UInt8
    let number: UInt8
  }

  /// Always kept free for frames other than data.
  private static let reserve = 256

  let descriptor: Int
  private var received = 0
  private var parsed = 0
  private var transmitStart = 0
  private var transmitEnd = 0

  /// - Returns: `nil` where there is no such port.
  init?() {
    // A device file of ours: the root may have no /dev that deserves the name.
    let flags =
      Linux.Open.readWrite | Linux.Open.noControllingTerminal | Linux.Open.nonBlocking | Linux.Open.closeOnExec
    let port = Linux.open("/.trivisor/channel", flags)
    guard port >= 0 else { return nil }
    descriptor = port
    // Eight bits, as they are, in both directions, at 115200 baud: nothing else is set.
    var settings = TerminalSettings()
    settings.controlFlags = 0x1002 | 0x30 | 0x80 | 0x800  // B115200, CS8, CREAD, CLOCAL
    settings.characters.6 = 1  // VMIN
    let isSet = withUnsafeMutablePointer(to: &settings) {
      Linux.call(.ioctl, port, Linux.Control.setTerminalSettings, Linux.address($0))
    }
    // A port without hardware behind it can be opened, and refuses this.
    guard isSet == 0 else { return nil }
    Linux.call(.ioctl, port, Linux.Control.makeExclusive)
  }

  // MARK: From the host

  /// Takes what has come.
  mutating func receive() {
    let buffer = receiveBuffer()
    if parsed > 0 {
      for index in parsed..<received { buffer[index - parsed] = buffer[index] }
      received -= parsed
      parsed = 0
    }
    let count = Linux.call(.read, descriptor, Linux.address(buffer + received), Int(RECEIVE_CAPACITY) - received)
    if count > 0 { received += count }
  }

  /// The next frame of what has come.
  mutating func nextFrame() -> Frame? {
    let buffer = receiveBuffer() + parsed
    let count = received - parsed
    guard count >= Self.headSize else { return nil }
    let contents = Int(buffer[2]) | Int(buffer[3]) << 8
    guard contents <= Self.contentLimit else {
      complain("what the host sends is no frame")
      giveUp()
    }
    guard count >= Self.headSize + contents else { return nil }
    parsed += Self.headSize + contents
    return Frame(
      kind: buffer[0], session: Int(buffer[1] >> 2), stream: buffer[1] & 3, contents: buffer + Self.headSize,
      count: contents)
  }

  // MARK: To the host

  var isFlushed: Bool { transmitStart == transmitEnd }

  /// How many bytes of data a frame can take now.
  var roomForData: Int {
    min(Int(TRANSMIT_CAPACITY) - (transmitEnd - transmitStart) - Self.reserve - Self.headSize, Self.contentLimit)
  }

  /// Sends what a descriptor gives, at most `limit` bytes.
  /// - Returns: what read(2) returned.
  mutating func send(_ stream: UInt8, of session: Int, from source: Int, limit: Int) -> Int {
    let count = min(roomForData, limit)
    guard count > 0 else { return Linux.Failure.tryAgain }
    makeRoom()
    let place = transmitBuffer() + transmitEnd
    let read = Linux.call(.read, source, Linux.address(place + Self.headSize), count)
    guard read > 0 else { return read }
    putHead(Kind.data, stream, session, read)
    transmitEnd += read
    return read
  }

  /// Sends bytes, for which there must be room.
  mutating func sendData(_ stream: UInt8, of session: Int, _ bytes: UnsafePointer<UInt8>, _ count: Int) {
    makeRoom()
    putHead(Kind.data, stream, session, count)
    for index in 0..<count { put(bytes[index]) }
  }

  mutating func sendCredit(_ stream: UInt8, of session: Int, _ count: Int) {
    makeRoom()
    putHead(Kind.credit, stream, session, 4)
    put(number: count)
  }

  mutating func sendHello(window: Int) {
    makeRoom()
    putHead(Kind.hello, Stream.input, 0, 16)
    let greeting: StaticString = "TRIVISOR"
    for index in 0..<8 { put(greeting.utf8Start[index]) }
    put(number: 1)
    put(number: window)
  }

  mutating func sendEnd(_ stream: UInt8, of session: Int) {
    makeRoom()
    putHead(Kind.end, stream, session, 0)
  }

  mutating func sendStatus(_ status: Status, of session: Int) {
    makeRoom()
    putHead(Kind.status, Stream.input, session, 2)
    put(status.how)
    put(status.number)
  }

  /// Says why the command can't be run; there is no status then.
  mutating func sendRefusal(of session: Int, _ text: UnsafePointer<UInt8>, _ count: Int) {
    makeRoom()
    let count = min(count, Int(TRANSMIT_CAPACITY) - transmitEnd - Self.headSize)
    guard count > 0 else { return }
    putHead(Kind.refusal, Stream.input, session, count)
    for index in 0..<count { put(text[index]) }
  }

  /// Hands the port as much as it takes.
  mutating func flush() {
    while transmitStart < transmitEnd {
      let written = Linux.call(
        .write, descriptor, Linux.address(transmitBuffer() + transmitStart), transmitEnd - transmitStart)
      guard written > 0 else { return }
      transmitStart += written
    }
    (transmitStart, transmitEnd) = (0, 0)
  }

  /// Whether a frame other than data can be sent: for a single short one there is always room.
  var hasReserve: Bool { Int(TRANSMIT_CAPACITY) - (transmitEnd - transmitStart) >= Self.reserve / 2 }

  private mutating func makeRoom() {
    guard transmitStart > 0 else { return }
    let buffer = transmitBuffer()
    for index in transmitStart..<transmitEnd { buffer[index - transmitStart] = buffer[index] }
    transmitEnd -= transmitStart
    transmitStart = 0
  }

  private mutating func putHead(_ kind: UInt8, _ stream: UInt8, _ session: Int, _ count: Int) {
    put(kind)
    put(stream | UInt8(truncatingIfNeeded: session << 2))
    put(UInt8(truncatingIfNeeded: count))
    put(UInt8(truncatingIfNeeded: count >> 8))
  }

  private mutating func put(_ byte: UInt8) {
    transmitBuffer()[transmitEnd] = byte
    transmitEnd += 1
  }

  private mutating func put(number: Int) {
    for index in 0..<4 { put(UInt8(truncatingIfNeeded: number >> (8 * index))) }
  }
}
