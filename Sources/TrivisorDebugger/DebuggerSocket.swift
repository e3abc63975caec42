import Glibc
import SystemPackage

/// A listening socket, closed and removed with its owner.
final class DebuggerSocket: Sendable {
  let raw: Int32
  /// As GDB's `target remote` takes it.
  let name: String
  private let path: String?

  /// - Throws: `DebuggerFailure` naming the call and what to do.
  init(_ place: DebuggerAddress.Place) throws(DebuggerFailure) {
    switch place {
    case .port(let port):
      raw = try Self.listening(AF_INET, name: "port \(port)", remedy: "choose another port, or 0 for any that is free")
      {
        descriptor in
        var reuse: Int32 = 1
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &reuse, socklen_t(MemoryLayout<Int32>.size))
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        // The guest is anybody's who can connect: this host's users only.
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        return withUnsafePointer(to: &address) { pointer in
          pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
          }
        }
      }
      var address = sockaddr_in()
      var size = socklen_t(MemoryLayout<sockaddr_in>.size)
      let socket = raw
      _ = withUnsafeMutablePointer(to: &address) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(socket, $0, &size) }
      }
      name = "localhost:\(UInt16(bigEndian: address.sin_port))"
      path = nil
    case .socket(let path):
      Self.removeAbandoned(path)
      raw = try Self.listening(AF_UNIX, name: path, remedy: "name a place where there is no file yet") { descriptor in
        Self.withAddress(path) { bind(descriptor, $0, $1) }
      }
      name = path
      self.path = path
    }
  }

  deinit {
    close(raw)
    if let path { unlink(path) }
  }

  private static func listening(
    _ family: Int32, name: String, remedy: String, _ bindTo: (Int32) -> Int32
  ) throws(DebuggerFailure) -> Int32 {
    let descriptor = socket(family, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else {
      throw DebuggerFailure("a socket for the debugger can't be made: \(Errno(rawValue: errno))")
    }
    guard bindTo(descriptor) == 0, listen(descriptor, 1) == 0 else {
      let error = Errno(rawValue: errno)
      close(descriptor)
      throw DebuggerFailure("no debugger can be awaited at \(name): \(error); \(remedy)")
    }
    return descriptor
  }

  private static func withAddress<Result>(
    _ path: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Result
  ) -> Result {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Array(path.utf8).prefix($0.count - 1)) }
    return withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
    }
  }

  /// A socket at which nobody listens any more is in nobody's way.
  private static func removeAbandoned(_ path: String) {
    var information = stat()
    guard lstat(path, &information) == 0, information.st_mode & S_IFMT == S_IFSOCK else { return }
    let probe = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard probe >= 0 else { return }
    defer { close(probe) }
    let isRefused = withAddress(path) { connect(probe, $0, $1) } != 0 && errno == ECONNREFUSED
    if isRefused { unlink(path) }
  }

  /// A debugger that has come; -1 if it has gone already.
  func accept() -> Int32 {
    let client = Glibc.accept(raw, nil, nil)
    if client >= 0 { _ = fcntl(client, F_SETFD, FD_CLOEXEC) }
    var immediate: Int32 = 1
    // Packets are small and each waits for its answer; refused where it makes no sense.
    if client >= 0 {
      setsockopt(client, Int32(IPPROTO_TCP), TCP_NODELAY, &immediate, socklen_t(MemoryLayout<Int32>.size))
    }
    return client
  }
}
