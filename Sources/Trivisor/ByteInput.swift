import Glibc
import TrivisorVMM

/// Bytes for a guest's console or its command, from this program.
public final class ByteInput: Sendable {
  // A pair of sockets and no pipe: what is sent to a machine that is gone must raise no SIGPIPE.
  private let guestEnd: FileDescriptor
  private let ownEnd: FileDescriptor

  /// - Throws: what the host answers when it has no more descriptors.
  public init() throws(Errno) {
    var ends: [Int32] = [-1, -1]
    let kind = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
    guard socketpair(AF_UNIX, kind, 0, &ends) == 0 else { throw Errno(rawValue: errno) }
    guestEnd = FileDescriptor(rawValue: ends[0])
    ownEnd = FileDescriptor(rawValue: ends[1])
  }

  deinit {
    try? guestEnd.close()
    try? ownEnd.close()
  }

  /// Hands `bytes` on; waits while the guest has not read what came before. What comes after the run is dropped.
  public func send(_ bytes: [UInt8]) async {
    let descriptor = ownEnd.rawValue
    await withCheckedContinuation { continuation in
      let work: @Sendable () -> Void = { [self] in
        withExtendedLifetime(self) { Self.send(bytes, to: descriptor) }
        continuation.resume()
      }
      if !DetachedThread.start(work) { work() }
    }
  }

  /// Hands `text` on as UTF-8; waits while the guest has not read what came before.
  public func send(_ text: String) async { await send(Array(text.utf8)) }

  /// There is nothing more: a command finds the end of its standard input.
  public func end() { shutdown(ownEnd.rawValue, Int32(SHUT_WR)) }

  private static func send(_ bytes: [UInt8], to descriptor: Int32) {
    var rest = bytes[...]
    while !rest.isEmpty {
      let sent = rest.withUnsafeBytes { Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
      if sent > 0 {
        rest = rest.dropFirst(sent)
      } else if errno != EINTR {
        return
      }
    }
  }

  var descriptorForGuest: FileDescriptor { guestEnd }

  /// The run is over: whoever waits in `send` goes on.
  func finish() { shutdown(guestEnd.rawValue, Int32(SHUT_RDWR)) }
}
