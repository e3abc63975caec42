import Glibc
import TrivisorVMM

/// What an owner and a worker say to each other: four bytes of length, a byte that says what it is, and values.
enum WorkerMessage {
  /// From the owner.
  enum Order: UInt8 {
    case configuration = 1
    case pause, resume, stop
  }

  /// From the worker.
  enum Report: UInt8 {
    case choice = 1
    case running, paused
    /// Every order to pause before this one has been followed, or had nothing to stop.
    case pauseFollowed
    case result, error
  }

  static let headSize = 5
  /// Nobody's is longer.
  static let sizeLimit = 16 << 20

  /// Whether all of it could be sent.
  static func send(_ kind: UInt8, _ values: [UInt8] = [], to socket: Int32) -> Bool {
    let length = UInt32(truncatingIfNeeded: values.count)
    var rest = (0..<4).map { UInt8(truncatingIfNeeded: length >> UInt32(8 * $0)) }[...] + [kind] + values[...]
    while !rest.isEmpty {
      let sent = rest.withUnsafeBytes { Glibc.send(socket, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
      if sent > 0 { rest = rest.dropFirst(sent) } else if errno != EINTR { return false }
    }
    return true
  }

  /// Puts messages together from what comes.
  struct Assembler {
    private var bytes: [UInt8] = []

    mutating func take(_ more: some Collection<UInt8>) { bytes += more }

    /// The next whole one.
    mutating func next() throws(WireFault) -> (kind: UInt8, values: [UInt8])? {
      guard bytes.count >= headSize else { return nil }
      let length = (0..<4).reduce(0) { $0 | Int(bytes[$1]) << (8 * $1) }
      guard length <= sizeLimit else { throw WireFault() }
      guard bytes.count >= headSize + length else { return nil }
      defer { bytes.removeFirst(headSize + length) }
      return (bytes[4], Array(bytes[headSize..<(headSize + length)]))
    }
  }
}
