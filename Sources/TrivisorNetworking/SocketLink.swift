// Two guests at the two ends of a Unix socket: the first that comes makes it and listens, the second connects.

import Glibc
import SystemPackage
import TrivisorCLinux
import TrivisorVMM

extension StreamLink {
  /// Connects to another guest that listens at `path`, or listens there for one.
  /// - Returns: the link, and whether it listens.
  /// - Throws: `NetworkFailure`.
  public static func atSocket(_ path: FilePath) throws(NetworkFailure) -> (link: StreamLink, listens: Bool) {
    guard var address = address(path) else {
      throw NetworkFailure(
        "\(Setting.network): the path \(path) is too long for a socket: give one of at most 107 bytes", isUsage: true)
    }
    // Of two that come at the same time, one is the first to bind.
    for _ in 0..<10 {
      let socket = Glibc.socket(
        AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
      guard socket >= 0 else { throw NetworkFailure(host: "socket", Errno(rawValue: errno)) }
      if call(connect, socket, &address) == 0 {
        return (try StreamLink(connected: socket, deliversValidChecksums: false), false)
      }
      var error = Errno(rawValue: errno)
      if error == .connectionRefused {
        guard isSocket(path) else {
          Glibc.close(socket)
          throw NetworkFailure(
            "\(Setting.network): the socket \(path) can't be made: something else is there: give another path",
            isUsage: true)
        }
        if removeStale(path) { error = .noSuchFileOrDirectory }
      }
      // Its queue is full: two guests have it.
      if error == .resourceTemporarilyUnavailable {
        Glibc.close(socket)
        throw NetworkFailure("\(Setting.network): two guests are connected over \(path) already: give another path")
      }
      guard error == .noSuchFileOrDirectory else {
        Glibc.close(socket)
        throw NetworkFailure(
          "\(Setting.network): the socket \(path) can't be used: \(error): give one that you may read and write",
          isUsage: true)
      }
      // The socket's file gets this mode, less what umask takes.
      if fchmod(socket, 0o600) == 0, call(bind, socket, &address) == 0, listen(socket, 0) == 0 {
        return (try StreamLink(listening: socket), true)
      }
      error = Errno(rawValue: errno)
      Glibc.close(socket)
      guard error == .addressInUse else {
        throw NetworkFailure(
          "\(Setting.network): the socket \(path) can't be made: \(error): name a place in a folder that you may write to",
          isUsage: true)
      }
    }
    throw NetworkFailure("\(Setting.network): the socket \(path) can't be made: others remove it again and again")
  }

  private static func address(_ path: FilePath) -> sockaddr_un? {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let bytes = path.withPlatformString { text in Array(UnsafeRawBufferPointer(start: text, count: strlen(text))) }
    guard !bytes.isEmpty, bytes.count < MemoryLayout.size(ofValue: address.sun_path) else { return nil }
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
    return address
  }

  private static func call(
    _ function: (Int32, UnsafePointer<sockaddr>, socklen_t) -> Int32, _ socket: Int32, _ address: inout sockaddr_un
  ) -> Int32 {
    withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        function(socket, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
  }

  /// Takes away a socket at which nobody listens any more: what a guest that has ended left.
  private static func removeStale(_ path: FilePath) -> Bool { path.withPlatformString { unlink($0) } == 0 }

  private static func isSocket(_ path: FilePath) -> Bool {
    var status = stat()
    return path.withPlatformString { lstat($0, &status) } == 0 && status.st_mode & S_IFMT == S_IFSOCK
  }
}
