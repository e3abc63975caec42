import TrivisorCLinux
import Glibc
import Synchronization
import SystemPackage
import TrivisorVMM

/// What a guest's code did, a line each, for people who want to follow it: the blocks that were entered, or the sensitive
/// instructions that were met. Both cost much time: blocks come back to Swift after each other then, and no sensitive
/// instruction is carried out in translated code.
public final class CodeTrace: Sendable {
  /// What is written down.
  public enum Subject: String, Sendable, CaseIterable {
    /// Linear address and mode of every block entered.
    case blocks
    /// Address and name of every sensitive instruction carried out.
    case sensitive
  }

  let subject: Subject
  private let descriptor: Int32
  private struct State {
    var buffer: [UInt8] = []
    var isClosed = false
    var failure: Errno?
  }

  private let state = Mutex(State())

  /// - Throws: `TechniqueFailure` when the file can't be written.
  public init(_ subject: Subject, path: String) throws(TechniqueFailure) {
    self.subject = subject
    descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else {
      throw TechniqueFailure(
        call: "opening the trace file \(path)", reason: String(cString: strerror(errno)),
        remedy: "name a file that can be written")
    }
  }

  deinit { _ = finish() }

  /// Closes the file: of what comes later nothing is written down.
  /// - Returns: why the trace is not whole, if it is not.
  public func finish() -> Errno? {
    state.withLock { state in
      guard !state.isClosed else { return state.failure }
      Self.write(&state, to: descriptor)
      // Some file systems tell only now that there was no room.
      if close(descriptor) != 0, errno != EINTR { state.failure = state.failure ?? Errno(rawValue: errno) }
      state.isClosed = true
      return state.failure
    }
  }

  /// Adds a line.
  func note(_ line: String) {
    state.withLock { state in
      guard state.failure == nil, !state.isClosed else { return }
      state.buffer += line.utf8
      state.buffer.append(UInt8(ascii: "\n"))
      if state.buffer.count >= 1 << 16 { Self.write(&state, to: descriptor) }
    }
  }

  /// Writes what is left, when a run ends.
  func flush() {
    state.withLock { state in
      if !state.isClosed { Self.write(&state, to: descriptor) }
    }
  }

  private static func write(_ state: inout State, to descriptor: Int32) {
    var done = 0
    while done < state.buffer.count {
      let count = state.buffer.withUnsafeBytes {
        Glibc.write(descriptor, $0.baseAddress.map { $0 + done }, $0.count - done)
      }
      if count < 0, errno == EINTR { continue }
      guard count > 0 else {
        // A full disk ends the trace, not the guest.
        state.failure = count < 0 ? Errno(rawValue: errno) : .ioError
        break
      }
      done += count
    }
    state.buffer.removeAll(keepingCapacity: true)
  }
}
