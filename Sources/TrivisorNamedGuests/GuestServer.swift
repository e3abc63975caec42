// Further commands for a guest that runs: one socket, one connection a command.
//
//     trivisor exec, shell ── socket ──▶ GuestConnection ──▶ CommandSession ──▶ the guest
//
// On the socket the command channel's own frames go, and the client is in the host's place: it is greeted, gives the order
// and grants credit.

import Glibc
import SystemPackage
import TrivisorCLinux
import TrivisorCommandChannel
import TrivisorVMM

/// Why a question has no answer, in one sentence.
public struct QuestionRefusal: Error, Sendable, Equatable, CustomStringConvertible {
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public let description: String

  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public init(_ description: String) { self.description = description }
}

/// Listens for further commands under a guest's name.
public final class GuestServer: Sendable {
  /// Makes a client's order one that the guest can carry out, or refuses it.
  public typealias Completion = @Sendable (CommandOrder) throws(CommandOrder.Refusal) -> CommandOrder

  /// Answers a question that is not the guest's, or refuses it with a sentence.
  public typealias Answering = @Sendable (String) -> Result<String, QuestionRefusal>

  private let socket: StreamSocket
  private let path: FilePath

  /// Takes the name: from here on others hear that it is there.
  /// - Throws: `NamedGuestFailure` for no name, one that a running guest has, or a host that refuses.
  public init(_ name: String, in folder: RuntimeFolder) throws(NamedGuestFailure) {
    let address = try folder.address(name)
    path = folder.path.appending(name)
    // Of two that find a dead guest's socket, one has to be the first.
    let lock = folder.path.withPlatformString { open($0, O_RDONLY | O_DIRECTORY | O_CLOEXEC) }
    defer { if lock >= 0 { Glibc.close(lock) } }
    if lock >= 0 { flock(lock, LOCK_EX) }
    if (try? StreamSocket.with(address, { connect($0, $1, $2) })) != nil {
      throw NamedGuestFailure(
        .usage, "a guest with the name '\(name)' runs already: give another name, or end that one")
    }
    _ = path.withPlatformString { unlink($0) }
    do throws(Errno) {
      socket = try StreamSocket.with(address) { raw, address, size in
        // The socket's file gets this mode, less what umask takes.
        fchmod(raw, 0o600) == 0 && bind(raw, address, size) == 0 ? listen(raw, 16) : -1
      }
    } catch {
      throw NamedGuestFailure(.host, "the socket \(path) can't be made: \(error)")
    }
  }

  deinit { close() }

  /// Serves clients on threads of its own, until the process ends.
  /// - Throws: `NamedGuestFailure` if the host gives no thread.
  public func start(
    _ channel: CommandChannel, completing complete: @escaping Completion, answering answer: @escaping Answering
  ) throws(NamedGuestFailure) {
    let socket = socket
    let isStarted = DetachedThread.start {
      GuestConnection.blockSignals()
      while true {
        let raw = accept4(socket.raw, nil, nil, Int32(SOCK_CLOEXEC.rawValue))
        guard raw >= 0 else {
          if [EINTR, ECONNABORTED].contains(errno) { continue }
          // No descriptors or memory: later, perhaps.
          if [EMFILE, ENFILE, ENOBUFS, ENOMEM].contains(errno) {
            usleep(100_000)
            continue
          }
          return
        }
        let client = StreamSocket(raw)
        guard client.isOwnPeer else { continue }
        _ = DetachedThread.start { GuestConnection(client, channel).serve(complete, answer) }
      }
    }
    guard isStarted else { throw NamedGuestFailure(.host, "the host gives no thread for the guest's socket") }
  }

  /// Gives the name back.
  public func close() {
    _ = path.withPlatformString { unlink($0) }
    socket.shut()
  }
}
