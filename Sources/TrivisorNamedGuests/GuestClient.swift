import Glibc
import Synchronization
import SystemPackage
import TrivisorCLinux
import TrivisorCommandChannel
import TrivisorDevices
import TrivisorVMM

/// Runs one command in a named guest: the client's end of its socket.
public final class GuestClient: Sendable {
  /// How it ended.
  public enum Outcome: Sendable, Equatable {
    /// The command has ended.
    case ended(CommandStatus)
    /// The guest, or who runs it, refuses the command; a sentence.
    case refused(String)
    /// The guest is gone, or speaks otherwise; a sentence.
    case lost(String)
    /// The user at the terminal wants no more of it.
    case left
    /// A signal came twice, and the command still runs.
    case interrupted(Int32)
  }

  /// What is between a person, or a pipe, and the command.
  public struct Ends: Sendable {
    /// The command's standard input; without, it is at its end at once.
    public var input: Int32?
    /// Whether a person types there.
    public var isTerminal: Bool
    /// The terminal's size.
    public var size: @Sendable () -> CommandOrder.Size
    /// Called after SIGCONT.
    public var whenContinued: @Sendable () -> Void
    /// Called when help is wanted at the terminal.
    public var whenHelpWanted: @Sendable () -> Void

    /// All that is asked for.
    public init(
      input: Int32?, isTerminal: Bool, size: @escaping @Sendable () -> CommandOrder.Size,
      whenContinued: @escaping @Sendable () -> Void, whenHelpWanted: @escaping @Sendable () -> Void
    ) {
      self.input = input
      self.isTerminal = isTerminal
      self.size = size
      self.whenContinued = whenContinued
      self.whenHelpWanted = whenHelpWanted
    }
  }

  /// Signals that the command gets in place of this process; the second of a kind ends this process.
  public static let forwardedSignals: [Int32] = [SIGINT, SIGTERM, SIGHUP, SIGQUIT]
  /// All that must be blocked in every thread.
  public static let awaitedSignals: [Int32] = forwardedSignals + [SIGCONT, SIGWINCH]

  private let socket: StreamSocket

  /// Reaches a guest.
  /// - Throws: `NamedGuestFailure` where there is none of that name.
  public init(_ name: String, in folder: RuntimeFolder) throws(NamedGuestFailure) {
    let address = try folder.address(name)
    do throws(Errno) {
      socket = try StreamSocket.with(address) { connect($0, $1, $2) }
    } catch .noSuchFileOrDirectory, .connectionRefused {
      let others = folder.names.filter { $0 != name }
      throw NamedGuestFailure(
        .usage,
        "no guest with the name '\(name)' runs"
          + (others.isEmpty
            ? ": start one by 'trivisor run … --name \(name)'" : "; there are: \(others.joined(separator: ", "))"))
    } catch {
      throw NamedGuestFailure(.host, "the guest's socket \(folder.path.appending(name)) can't be used: \(error)")
    }
  }

  /// Asks who runs the guest something, instead of running a command.
  /// - Throws: `NamedGuestFailure` with the sentence that refuses it, or when the guest is gone.
  public func ask(_ question: String) throws(NamedGuestFailure) -> String {
    let gone = NamedGuestFailure(.host, "the guest ended before it had answered")
    guard socket.sendAll(ChannelFrame(.question, .input, Array(question.utf8)).bytes) else { throw gone }
    var reader = ChannelFrameReader()
    while let bytes = socket.receive() {
      for byte in bytes {
        let taken: ChannelFrame?
        do throws(ChannelFrameReader.Fault) { taken = try reader.take(byte) } catch {
          throw NamedGuestFailure(
            .host, "something else than the protocol came over the guest's socket: \(error.description)")
        }
        guard let frame = taken else { continue }
        let text = String(decoding: frame.contents, as: UTF8.self)
        if frame.kind == .answer { return text }
        if frame.kind == .refusal { throw NamedGuestFailure(.usage, text) }
      }
    }
    throw gone
  }

  /// Runs the command to its end. `awaitedSignals` must be blocked.
  /// - Throws: `CommandOrder.Refusal` for an order that can't be given.
  public func run(
    _ order: CommandOrder, output: any SerialSink, errorOutput: any SerialSink, _ ends: Ends
  ) throws(CommandOrder.Refusal) -> Outcome {
    let channel = try CommandChannel(order, output: output, errorOutput: errorOutput)
    let line = ClientLine(socket)
    channel.connect(line)
    var loop = GuestClientLoop(socket, line, channel, ends)
    let outcome = loop.run()
    if case .ended = outcome {
      channel.finish()
    } else {
      channel.abandon()
    }
    return outcome
  }
}

/// The socket as the channel's port: takes what goes without waiting, and calls when more goes.
final class ClientLine: ConsoleInput {
  private struct State {
    var isFull = false
    var hook: (@Sendable () -> Void)?
  }

  private let socket: StreamSocket
  private let state = Mutex(State())

  init(_ socket: StreamSocket) { self.socket = socket }

  var isListening: Bool { true }

  /// Whether somebody has to wait for room.
  var isFull: Bool { state.withLock { $0.isFull } }

  func receive(_ bytes: UnsafeRawBufferPointer) -> Int {
    let taken = socket.sendSome(bytes)
    state.withLock { $0.isFull = taken < bytes.count }
    return taken
  }

  func whenRoomForInput(_ hook: @escaping @Sendable () -> Void) { state.withLock { $0.hook = hook } }

  /// The socket takes more.
  func goOn() {
    let hook = state.withLock { state in
      state.isFull = false
      return state.hook
    }
    hook?()
  }
}
