import Glibc
import Synchronization
import TrivisorCLinux
import TrivisorCommandChannel
import TrivisorVMM

/// One client of a named guest: its command's streams between the socket and the guest.
///
///     this thread   ── order, or a question; input as the guest takes it; the end
///     reader        ── frames from the client
///     pumps' threads ── output, as far as the client has given credit
///
/// The client is this user's, and yet not trusted: it gets only what it has credit for, and its frames are checked.
final class GuestConnection: Sendable {
  /// What the client may send of its input and its order before it hears that they were taken.
  private static let window = 64 << 10

  private struct State {
    var reader = ChannelFrameReader(waitsForHello: false)
    var order: [UInt8] = []
    var isOrdered = false
    var question: String?
    var input: [UInt8] = []
    var inputHasEnded = false
    var credit = [ChannelStream.output: 0, .error: 0]
    var size: CommandOrder.Size?
    var signals: [UInt8] = []
    var session: CommandSession?
    /// There may be room for input that was refused.
    var hasRoom = true
    var isOver = false
    /// The client is gone, or has broken the rules.
    var isGone = false
  }

  private enum Work {
    case begin([UInt8])
    case answer(String)
    case input([UInt8])
    case endInput
    case finish
  }

  private let socket: StreamSocket
  private let channel: CommandChannel
  private let state = Monitor(State())
  /// One frame at a time.
  private let sending = Mutex(())

  init(_ socket: StreamSocket, _ channel: CommandChannel) {
    self.socket = socket
    self.channel = channel
  }

  static func blockSignals() {
    var all = sigset_t()
    sigfillset(&all)
    pthread_sigmask(SIG_SETMASK, &all, nil)
  }

  /// Until the command has ended or the client is gone.
  func serve(_ complete: GuestServer.Completion, _ answer: GuestServer.Answering) {
    Self.blockSignals()
    defer {
      // Its end calls into the channel: not with the lock.
      _ = state.with { state -> CommandSession? in
        defer { state.session = nil }
        return state.session
      }
      socket.shut()
    }
    guard send(.hello(window: UInt32(Self.window))), DetachedThread.start({ self.read() }) else { return }
    while true {
      switch nextWork() {
      case .begin(let bytes):
        do throws(CommandOrder.Refusal) {
          try begin(try complete(try CommandOrder(bytes)))
        } catch {
          _ = send(ChannelFrame(.refusal, .input, Array(error.description.utf8.prefix(ChannelFrame.contentLimit))))
          return
        }
      case .answer(let question):
        switch answer(question) {
        case .success(let text):
          _ = send(ChannelFrame(.answer, .input, Array(text.utf8.prefix(ChannelFrame.contentLimit))))
        case .failure(let refusal):
          _ = send(ChannelFrame(.refusal, .input, Array(refusal.description.utf8.prefix(ChannelFrame.contentLimit))))
        }
        return
      case .input(let bytes): giveInput(bytes)
      case .endInput: state.with { $0.session }?.endInput()
      case .finish: return finish()
      case nil: return
      }
    }
  }

  /// Waits for something to do; `nil` when the client is gone.
  private func nextWork() -> Work? {
    state.wait { state -> Work?? in
      if state.isGone { return .some(nil) }
      guard let _ = state.session else {
        if let question = state.question { return .answer(question) }
        guard state.isOrdered else { return nil }
        state.isOrdered = false
        return .begin(state.order)
      }
      if state.isOver { return .finish }
      if state.hasRoom, !state.input.isEmpty {
        state.hasRoom = false
        return .input(state.input)
      }
      if state.input.isEmpty, state.inputHasEnded {
        state.inputHasEnded = false
        return .endInput
      }
      return nil
    }
  }

  private func begin(_ order: CommandOrder) throws(CommandOrder.Refusal) {
    let session = try channel.begin(
      order, output: ClientSink(self, .output), errorOutput: ClientSink(self, .error))
    session.whenRoomForInput { [weak self] in self?.state.with { $0.hasRoom = true } }
    let (size, signals) = state.with { state in
      state.session = session
      return (state.size, state.signals)
    }
    if let size { session.resize(size) }
    for signal in signals { session.signal(signal) }
    session.whenOver { [weak self] in self?.state.with { $0.isOver = true } }
  }

  private func giveInput(_ bytes: [UInt8]) {
    guard let session = state.with({ $0.session }) else { return }
    let taken = session.receive(bytes)
    state.with { state in
      state.input.removeFirst(taken)
      if taken == bytes.count { state.hasRoom = true }
    }
    if taken > 0 { _ = send(.credit(.input, UInt32(taken))) }
    if session.isUnwanted { _ = send(ChannelFrame(.end, .input)) }
  }

  private func finish() {
    guard let session = state.with({ $0.session }) else { return }
    // Waits for the client, which may be slow; if it goes, the sinks drop everything.
    session.finish()
    let last: ChannelFrame
    switch session.progress {
    case .ended(let status): last = ChannelFrame(.status, .input, status.contents)
    case .refused(let reason), .failed(let reason):
      last = ChannelFrame(.refusal, .input, Array(reason.utf8.prefix(ChannelFrame.contentLimit)))
    case .waiting, .running: return
    }
    _ = send(last)
  }

  // MARK: To the client

  private func send(_ frame: ChannelFrame) -> Bool {
    let isSent = sending.withLock { _ in socket.sendAll(frame.bytes) }
    if !isSent { lose() }
    return isSent
  }

  /// Sends output as far as there is credit for it, and waits for more.
  fileprivate func send(_ bytes: UnsafeRawBufferPointer, _ stream: ChannelStream) {
    var rest = bytes
    while !rest.isEmpty {
      let wanted = min(rest.count, ChannelFrame.contentLimit)
      let count = state.wait { state -> Int? in
        if state.isGone { return 0 }
        let count = min(wanted, state.credit[stream] ?? 0)
        guard count > 0 else { return nil }
        state.credit[stream, default: 0] -= count
        return count
      }
      guard count > 0, send(ChannelFrame(.data, stream, Array(rest.prefix(count)))) else { return }
      rest = UnsafeRawBufferPointer(rebasing: rest[count...])
    }
  }

  /// The client is gone.
  private func lose() {
    let session = state.with { state in
      state.isGone = true
      return state.session
    }
    session?.hangUp()
    socket.shut()
  }

  // MARK: From the client

  private func read() {
    Self.blockSignals()
    while let bytes = socket.receive() {
      do throws(ChannelFrameReader.Fault) {
        try take(bytes)
      } catch {
        _ = send(ChannelFrame(.refusal, .input, Array(error.description.utf8)))
        break
      }
    }
    lose()
  }

  private func take(_ bytes: [UInt8]) throws(ChannelFrameReader.Fault) {
    typealias Taken = (frame: ChannelFrame, session: CommandSession?)
    let result = state.with { state -> Result<[Taken], ChannelFrameReader.Fault> in
      do throws(ChannelFrameReader.Fault) {
        var taken: [Taken] = []
        for byte in bytes {
          guard let frame = try state.reader.take(byte) else { continue }
          try Self.answer(frame, &state)
          // As of now: for a command that is begun later, size and signals are kept.
          taken.append((frame, state.session))
        }
        return .success(taken)
      } catch {
        return .failure(error)
      }
    }
    for (frame, session) in try result.get() {
      switch frame.kind {
      case .order: _ = send(.credit(.order, UInt32(frame.contents.count)))
      case .size: if let size = CommandOrder.Size(frame.contents) { session?.resize(size) }
      case .signal: if let signal = frame.contents.first { session?.signal(signal) }
      default: break
      }
    }
  }

  private static func answer(_ frame: ChannelFrame, _ state: inout State) throws(ChannelFrameReader.Fault) {
    let nonsense = ChannelFrameReader.Fault(description: "what came over the guest's socket makes no sense")
    guard frame.session == 0 else { throw nonsense }
    switch (frame.kind, frame.stream) {
    case (.order, .order):
      state.order += frame.contents
      guard state.session == nil, state.order.count <= CommandOrder.sizeLimit else { throw nonsense }
    case (.start, _):
      guard state.question == nil else { throw nonsense }
      state.isOrdered = true
    case (.question, _):
      guard state.session == nil, state.order.isEmpty, !state.isOrdered, state.question == nil else { throw nonsense }
      state.question = String(decoding: frame.contents, as: UTF8.self)
    case (.data, .input):
      state.input += frame.contents
      guard state.input.count <= window else { throw nonsense }
    case (.end, .input): state.inputHasEnded = true
    case (.credit, .output), (.credit, .error):
      guard let count = frame.number(at: 0), count <= 1 << 20 else { throw nonsense }
      state.credit[frame.stream] = min((state.credit[frame.stream] ?? 0) + Int(count), 1 << 20)
    case (.size, _):
      guard let size = CommandOrder.Size(frame.contents) else { throw nonsense }
      state.size = size
    case (.signal, _):
      guard let signal = frame.contents.first, frame.contents.count == 1, (1...64).contains(signal) else {
        throw nonsense
      }
      if state.session == nil, state.signals.count < 16 { state.signals.append(signal) }
    default: throw nonsense
    }
  }
}

/// One output stream of a client's command.
private final class ClientSink: SerialSink {
  private let connection: GuestConnection
  private let stream: ChannelStream

  init(_ connection: GuestConnection, _ stream: ChannelStream) {
    self.connection = connection
    self.stream = stream
  }

  func write(_ bytes: UnsafeRawBufferPointer) { connection.send(bytes, stream) }
  /// What was written has gone.
  func finish() {}
  /// Whoever loses the client ends the wait.
  func abandon() {}
}
