import Glibc

/// Unix sockets of programs of the host's.
enum HostSocket {
  private static func made(_ path: String, _ call: (Int32, UnsafePointer<sockaddr>, socklen_t) -> Int32) -> Int32 {
    let made = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
    guard made >= 0 else { return -1 }
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8.prefix($0.count - 1)) }
    let status = withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        call(made, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    guard status == 0 else {
      close(made)
      return -1
    }
    return made
  }

  /// - Returns: a descriptor that does not block, or a negative number.
  static func connected(_ path: String) -> Int32 { made(path) { connect($0, $1, $2) } }

  /// - Returns: the same, which listens.
  static func listening(_ path: String) -> Int32 { made(path) { bind($0, $1, $2) == 0 ? listen($0, 16) : -1 } }
}
