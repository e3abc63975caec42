import Glibc
import SystemPackage
import TrivisorCLinux

/// A connected Unix stream socket that frames go over.
final class StreamSocket: Sendable {
  let raw: Int32

  init(_ raw: Int32) { self.raw = raw }

  deinit { close(raw) }

  /// Connects, or listens.
  /// - Throws: what the call said.
  static func with(
    _ address: sockaddr_un, _ call: (Int32, UnsafePointer<sockaddr>, socklen_t) -> Int32
  ) throws(Errno) -> StreamSocket {
    let raw = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    guard raw >= 0 else { throw Errno(rawValue: errno) }
    let socket = StreamSocket(raw)
    var address = address
    let result = withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        call(raw, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    guard result == 0 else { throw Errno(rawValue: errno) }
    return socket
  }

  /// Whether the other end is this user, or root.
  var isOwnPeer: Bool {
    var peer = CLinuxPeer()
    return clinux_peer(raw, &peer) == 0 && (peer.user == geteuid() || peer.user == 0)
  }

  /// Sends all of it, however long that takes.
  /// - Returns: whether the other end is still there.
  func sendAll(_ bytes: [UInt8]) -> Bool {
    bytes.withUnsafeBytes { buffer in
      var rest = UnsafeRawBufferPointer(rebasing: buffer[...])
      while !rest.isEmpty {
        let count = send(raw, rest.baseAddress, rest.count, Int32(MSG_NOSIGNAL))
        if count < 0, errno == EINTR { continue }
        guard count > 0 else { return false }
        rest = UnsafeRawBufferPointer(rebasing: rest[count...])
      }
      return true
    }
  }

  /// Sends what goes without waiting.
  func sendSome(_ bytes: UnsafeRawBufferPointer) -> Int {
    max(0, send(raw, bytes.baseAddress, bytes.count, Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT)))
  }

  /// Waits for bytes.
  /// - Returns: `nil` at the end of what comes.
  func receive() -> [UInt8]? {
    var buffer = [UInt8](repeating: 0, count: 16 << 10)
    while true {
      let count = recv(raw, &buffer, buffer.count, 0)
      if count < 0, errno == EINTR { continue }
      return count > 0 ? Array(buffer[..<count]) : nil
    }
  }

  /// Ends both directions: whoever waits in `receive` or `sendAll` returns.
  func shut() { shutdown(raw, Int32(SHUT_RDWR)) }
}
