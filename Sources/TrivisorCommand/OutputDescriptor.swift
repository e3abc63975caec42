import Glibc
import SystemPackage

/// Bytes for a descriptor that may be anything: a terminal, a pipe, a socket, one that somebody made non-blocking.
enum OutputDescriptor {
  /// Writes all of `bytes`, past interruptions and short writes, waiting for room.
  /// - Returns: why it could not.
  static func write(_ bytes: some Sequence<UInt8>, to descriptor: Int32) -> Errno? {
    var remaining = Array(bytes)[...]
    while !remaining.isEmpty {
      let count = remaining.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
      if count >= 0 {
        remaining = remaining.dropFirst(count)
        continue
      }
      switch Errno(rawValue: errno) {
      case .interrupted: continue
      case .wouldBlock:
        var ready = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        poll(&ready, 1, -1)
      case let error: return error
      }
    }
    return nil
  }
}
