// The host's side of a guest's sockets, as Firecracker has it: one Unix socket at PATH.
//
//     a program of the host's   connects to PATH, writes "CONNECT port\n"     ──▶ the guest's listener at that port
//                               reads "OK hostport\n", then the stream
//     the guest                 connects to host, port P                      ──▶ whoever listens at PATH_P
//
// The first direction is accepted here. The second goes by way of a process of its own, the broker, so that the monitor
// keeps no right to connect to anything.

import Glibc
import Synchronization
import SystemPackage
import TrivisorCLinux
import TrivisorCSockets
import TrivisorVMM

/// The Unix socket of a machine's virtio socket device. It is made once, and serves all lives of the machine.
public final class SocketGate: Sendable {
  /// What fits into an address beside "_" and a port (unix(7)).
  private static let pathLimit = MemoryLayout.size(ofValue: sockaddr_un().sun_path) - 12

  /// Where programs of the host's connect to.
  public let path: FilePath
  /// Listens; does not block.
  let listener: Int32
  /// To the broker; it ends, and removes the socket, with the last descriptor.
  private let broker: Int32
  /// An answer belongs to the question before it.
  private let asking = Mutex(())

  /// Listens at a path where no socket is, or one that nobody serves any more.
  /// - Throws: `DeviceFailure` for a path that can't be, that something else has, or a host that refuses.
  public init(path: FilePath) throws(DeviceFailure) {
    self.path = path
    let bytes = path.withPlatformString { Array(UnsafeBufferPointer(start: $0, count: strlen($0))) }
    guard !bytes.isEmpty, bytes.count <= Self.pathLimit else {
      throw DeviceFailure(
        call: "make the socket \(path)", reason: "its path has \(bytes.count) bytes, and 1 to \(Self.pathLimit) can be",
        remedy: "give a shorter one")
    }
    let made = socket(AF_UNIX, Self.streamType | Int32(SOCK_NONBLOCK.rawValue), 0)
    guard made >= 0 else { throw DeviceFailure(call: "make a socket", Errno(rawValue: errno)) }
    do throws(DeviceFailure) {
      try Self.takePath(path, bytes)
      // The socket's file gets this mode, less what umask takes.
      let isBound = fchmod(made, 0o600) == 0 && Self.withAddress(bytes) { bind(made, $0, $1) } == 0
      guard isBound, listen(made, 1024) == 0 else {
        throw DeviceFailure(
          call: "make the socket \(path)", Errno(rawValue: errno),
          remedy: "name a place in a folder that you may write to")
      }
      let started = path.withPlatformString { sockets_start_broker($0) }
      guard started >= 0 else {
        let error = Errno(rawValue: -started)
        if isBound { _ = path.withPlatformString { unlink($0) } }
        throw DeviceFailure(call: "start the process that connects for the guest", error)
      }
      broker = started
    } catch {
      Glibc.close(made)
      throw error
    }
    listener = made
  }

  deinit {
    Glibc.close(listener)
    Glibc.close(broker)
  }

  private static let streamType = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)

  private static func withAddress(_ path: [CChar], _ call: (UnsafePointer<sockaddr>, socklen_t) -> Int32) -> Int32 {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { place in
      for (index, byte) in path.enumerated() { place[index] = UInt8(bitPattern: byte) }
    }
    return withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        call($0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
  }

  /// Removes a socket that a killed run has left.
  private static func takePath(_ path: FilePath, _ bytes: [CChar]) throws(DeviceFailure) {
    var status = stat()
    guard path.withPlatformString({ lstat($0, &status) }) == 0 else { return }
    let call = "make the socket \(path)"
    guard status.st_mode & S_IFMT == S_IFSOCK else {
      throw DeviceFailure(call: call, reason: "something else is there", remedy: "give another path")
    }
    let knocking = socket(AF_UNIX, streamType, 0)
    defer { Glibc.close(knocking) }
    guard withAddress(bytes, { Glibc.connect(knocking, $0, $1) }) != 0 else {
      throw DeviceFailure(call: call, reason: "another program listens there", remedy: "give another path")
    }
    _ = path.withPlatformString { unlink($0) }
  }

  enum Knock: Equatable {
    case descriptor(Int32)
    case nobody
    /// There may be somebody, for whom the host has no room.
    case noRoom
  }

  /// The next program of the host's that has connected.
  func accept() -> Knock {
    while true {
      let accepted = accept4(
        listener, nil, nil, Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue))
      if accepted >= 0 { return .descriptor(accepted) }
      let error = errno
      if error == EINTR || error == ECONNABORTED { continue }
      return error == EAGAIN ? .nobody : .noRoom
    }
  }

  /// Connects to who listens for the guest's connections to `port`.
  /// - Returns: a descriptor that does not block, or `nil`.
  func connect(port: UInt32) -> Int32? {
    let connected = asking.withLock { _ in sockets_ask_broker(broker, port) }
    return connected >= 0 ? connected : nil
  }
}
