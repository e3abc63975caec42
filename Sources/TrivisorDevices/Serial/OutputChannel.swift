import TrivisorCLinux
import Glibc
import Synchronization
import SystemPackage

/// A descriptor to write to, where waiting can be cancelled from another thread.
final class OutputChannel: Sendable {
  private enum Way {
    /// A file opened a second time, non-blocking; ours to close.
    case nonBlocking(Int32)
    case socket(Int32)
    /// Never waits for long: a regular file, or one that can't be written at all.
    case direct(Int32)
    /// Could not be opened a second time: write only as much as poll(2) promises room for.
    case polled(Int32)
  }

  /// PIPE_BUF: what a pipe that is ready takes without waiting.
  private static let pipeAtom = 4096
  /// What a terminal that is ready takes without waiting (the kernel's WAKEUP_CHARS).
  private static let terminalAtom = 256

  private let way: Way
  private let atom: Int
  /// An eventfd; negative if the host gave none, then waits can't be cancelled but are short.
  private let cancellation: Int32
  private let isClosed = Atomic(false)

  init(_ descriptor: Int32) {
    cancellation = eventfd(0, Int32(EFD_CLOEXEC) | Int32(EFD_NONBLOCK))
    var status = stat()
    let kind = fstat(descriptor, &status) == 0 ? status.st_mode & S_IFMT : 0
    atom = kind == S_IFCHR ? Self.terminalAtom : Self.pipeAtom
    let access = fcntl(descriptor, F_GETFL) & O_ACCMODE
    switch kind {
    // Opened a second time it could be written; but nobody asked for that, and nobody would see it.
    case _ where access == O_RDONLY: way = .direct(descriptor)
    case S_IFSOCK: way = .socket(descriptor)
    case S_IFREG: way = .direct(descriptor)
    default:
      let again = open("/proc/self/fd/\(descriptor)", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)
      way = again >= 0 ? .nonBlocking(again) : .polled(descriptor)
    }
  }

  deinit {
    close()
    if cancellation >= 0 { Glibc.close(cancellation) }
  }

  /// Lets go of what was opened a second time. While nobody writes; what is written afterwards is refused.
  func close() {
    guard !isClosed.exchange(true, ordering: .relaxed), case .nonBlocking(let descriptor) = way else { return }
    Glibc.close(descriptor)
  }

  /// Ends every wait, now and later.
  func cancel() {
    var one: UInt64 = 1
    _ = Glibc.write(cancellation, &one, 8)
  }

  /// Writes all of `bytes`, waiting for room.
  /// - Returns: why it could not; ECANCELED when cancelled.
  func write(_ bytes: UnsafeRawBufferPointer) -> Errno? {
    guard !isClosed.load(ordering: .relaxed) else { return .badFileDescriptor }
    var rest = bytes
    while !rest.isEmpty {
      let written: Int
      switch way {
      case .nonBlocking(let descriptor), .direct(let descriptor):
        written = Glibc.write(descriptor, rest.baseAddress, rest.count)
      case .socket(let descriptor):
        written = send(descriptor, rest.baseAddress, rest.count, Int32(MSG_DONTWAIT | MSG_NOSIGNAL))
      case .polled(let descriptor):
        if let failure = waitForRoom(descriptor) { return failure }
        written = Glibc.write(descriptor, rest.baseAddress, min(rest.count, atom))
      }
      if written >= 0 {
        rest = UnsafeRawBufferPointer(rebasing: rest[written...])
        continue
      }
      let error = Errno(rawValue: errno)
      switch (error, way) {
      case (.interrupted, _): continue
      case (.wouldBlock, .nonBlocking(let descriptor)), (.wouldBlock, .socket(let descriptor)),
        (.wouldBlock, .direct(let descriptor)), (.wouldBlock, .polled(let descriptor)):
        if let failure = waitForRoom(descriptor) { return failure }
      default: return error
      }
    }
    return nil
  }

  private func waitForRoom(_ descriptor: Int32) -> Errno? {
    while true {
      var ready = (
        pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0),
        pollfd(fd: cancellation, events: Int16(POLLIN), revents: 0)
      )
      let count = withUnsafeMutablePointer(to: &ready) { pointer in
        pointer.withMemoryRebound(to: pollfd.self, capacity: 2) { poll($0, 2, -1) }
      }
      if count < 0 {
        let error = Errno(rawValue: errno)
        if error != .interrupted { return error }
        continue
      }
      if ready.1.revents != 0 { return .canceled }
      // An error or a hang-up makes the next write say which.
      if ready.0.revents != 0 { return nil }
    }
  }
}
