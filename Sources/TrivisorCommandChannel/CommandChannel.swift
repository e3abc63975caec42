// The host's end of the command channel: a serial port's other side.
//
//     HostLoop ──receive, endInput──▶ frames ──▶ port's FIFO ──▶ the guest's first process ──▶ the commands
//     sinks ◀── OutputPump (a thread each) ◀── frames ◀── what the guest transmits, on the processor's thread
//
// Nothing here waits: what the port does not take stays in `outgoing`, which credit keeps small, and goes on when the port
// calls; what the guest sends goes into the pumps, which have room for it, because it has no credit for more.
//
// The first command is the channel's own; the others are `CommandSession`s. When the first has ended, so has the channel.
//
// Lock order: `state` before the port's lock, and before a pump's. Pumps call back with no lock held.

import Synchronization
import TrivisorVMM

/// Runs commands in a guest whose first process speaks the channel's protocol.
public final class CommandChannel: SerialSink, ConsoleInput {
  /// How far a command has come.
  public enum Progress: Sendable, Equatable {
    /// The guest's first process has not opened the channel.
    case waiting
    /// The command has been ordered.
    case running
    /// It has ended.
    case ended(CommandStatus)
    /// The guest's first process can't do what the command needs, a sentence.
    case refused(String)
    /// Something else than the protocol came, a sentence: the status can't be known any more.
    case failed(String)
  }

  private struct State {
    var reader = ChannelFrameReader()
    /// Frames for the guest; the port has taken the first `taken` bytes.
    var outgoing: [UInt8] = []
    var taken = 0
    /// What the guest takes of a command's input at its start; zero before its hello.
    var window = 0
    /// What it takes of orders.
    var orderCredit = 0
    /// By a name of their own, because numbers are used again. The first command is 0.
    var records: [Int: CommandRecord] = [:]
    var nextName = 1
    /// Names of those whose order has not gone, in turn.
    var orders = [0]

    /// The first command has ended, or nothing can be known of it any more.
    var isOver: Bool { records[0]?.isOver ?? true }

    /// Takes a frame.
    /// - Returns: the command that it changed; `nil` if that may be all.
    mutating func answer(_ frame: ChannelFrame) throws(ChannelFrameReader.Fault) -> Int? {
      switch (frame.kind, frame.stream) {
      case (.hello, _):
        try open(frame)
        return nil
      case (.credit, .order):
        orderCredit = min(orderCredit + (try CommandChannel.credit(frame)), CommandChannel.creditLimit)
        sendOrders()
        return nil
      default:
        guard let name = records.first(where: { $0.value.number == frame.session && !$0.value.isOver })?.key else {
          throw ChannelFrameReader.Fault(description: "a frame of a command came that there is not")
        }
        try records[name]?.answer(frame)
        return name
      }
    }

    private mutating func open(_ frame: ChannelFrame) throws(ChannelFrameReader.Fault) {
      guard window == 0, let version = frame.number(at: 8), let window = frame.number(at: 12),
        (1...UInt32(CommandChannel.creditLimit)).contains(window)
      else { throw ChannelFrameReader.Fault(description: "a hello came that makes no sense") }
      guard version == ChannelFrame.version else {
        throw ChannelFrameReader.Fault(
          description: "the guest speaks version \(version) of the protocol instead of \(ChannelFrame.version)")
      }
      self.window = Int(window)
      orderCredit = Int(window)
      for name in records.keys { records[name]?.open(window: Int(window)) }
      sendOrders()
    }

    /// Nothing can be known any more of any command.
    mutating func fail(_ reason: String) -> [@Sendable () -> Void] {
      var hooks: [@Sendable () -> Void] = []
      for name in records.keys where !(records[name]?.isOver ?? true) {
        records[name]?.progress = .failed(reason)
        hooks += records[name]?.takeHooks() ?? []
      }
      return hooks
    }

    mutating func removeForgotten(_ name: Int) {
      guard let record = records[name], record.isForgotten, record.isOver else { return }
      records[name] = nil
      orders.removeAll { $0 == name }
    }

    mutating func send(_ frames: [ChannelFrame]) {
      for frame in frames { outgoing += frame.bytes }
    }

    /// As much of the orders as the guest takes.
    mutating func sendOrders() {
      guard window > 0 else { return }
      while let name = orders.first, orderCredit > 0 {
        send(records[name]?.orderFrames(credit: &orderCredit) ?? [])
        guard records[name]?.order.isEmpty ?? true else { return }
        orders.removeFirst()
      }
    }
  }

  /// No guest of ours grants more.
  static let creditLimit = 1 << 20
  /// Signals and sizes are dropped while so much waits for a guest that does not read.
  private static let backlogLimit = 1 << 20
  /// So much may have gone before it is removed from the bytes under way.
  private static let removalStep = 16 << 10

  private let state = Mutex(State())
  private let port = Mutex<(any ConsoleInput)?>(nil)

  /// - Parameters:
  ///   - order: the first command's, given to the guest as soon as it opens the channel.
  ///   - output: gets the command's standard output, or all that its terminal shows.
  ///   - errorOutput: gets its standard error output.
  /// - Throws: `CommandOrder.Refusal`.
  public init(
    _ order: CommandOrder, output: any SerialSink, errorOutput: any SerialSink
  ) throws(CommandOrder.Refusal) {
    let bytes = try order.bytes()
    let record = CommandRecord(
      number: 0, order: bytes, output: pump(0, .output, output), errorOutput: pump(0, .error, errorOutput))
    state.withLock { $0.records[0] = record }
  }

  private func pump(_ name: Int, _ stream: ChannelStream, _ sink: any SerialSink) -> OutputPump {
    OutputPump(sink) { [weak self] count in self?.change(name) { $0.creditFrames(stream, gone: count) } }
  }

  /// The port on whose other side this is.
  public func connect(_ port: any ConsoleInput) {
    self.port.withLock { $0 = port }
    port.whenRoomForInput { [weak self] in self?.handOver() }
  }

  // MARK: Further commands

  /// Begins a further command, at once or when the guest opens the channel.
  /// - Throws: `CommandOrder.Refusal` where Linux could not run it, as many run as can, or the guest has ended.
  public func begin(
    _ order: CommandOrder, output: any SerialSink, errorOutput: any SerialSink
  ) throws(CommandOrder.Refusal) -> CommandSession {
    let bytes = try order.bytes()
    let name = state.withLock { state in
      defer { state.nextName += 1 }
      return state.nextName
    }
    let (output, errorOutput) = (pump(name, .output, output), pump(name, .error, errorOutput))
    let problem = state.withLock { state -> String? in
      guard !state.isOver else { return "the guest has ended" }
      let used = Set(state.records.values.filter { !$0.isOver }.map(\.number))
      guard let number = (1..<ChannelFrame.sessionLimit).first(where: { !used.contains($0) }) else {
        return "\(ChannelFrame.sessionLimit) commands run in the guest, and no more can"
      }
      var record = CommandRecord(number: number, order: bytes, output: output, errorOutput: errorOutput)
      if state.window > 0 { record.open(window: state.window) }
      state.records[name] = record
      state.orders.append(name)
      state.sendOrders()
      return nil
    }
    if let problem { throw CommandOrder.Refusal(description: problem) }
    handOver()
    return CommandSession(self, name: name)
  }

  /// Changes what is known of a command and sends what comes of that.
  func change(_ name: Int, isUrgent: Bool = true, _ body: (inout CommandRecord) -> [ChannelFrame]) {
    state.withLock { state in
      guard isUrgent || state.outgoing.count < Self.backlogLimit else { return }
      guard var record = state.records[name] else { return }
      state.records[name] = nil
      let frames = body(&record)
      state.records[name] = record
      state.send(frames)
    }
    handOver()
  }

  /// What is known of a command.
  func look<Result: Sendable>(_ name: Int, _ body: (CommandRecord) -> Result) -> Result? {
    state.withLock { $0.records[name].map(body) }
  }

  /// Input for a command.
  func receive(_ name: Int, _ bytes: UnsafeRawBufferPointer) -> Int {
    var taken = bytes.count
    change(name) { record in
      let (count, frames) = record.inputFrames(bytes)
      taken = count
      return frames
    }
    return taken
  }

  /// Nobody asks for a command any more. One that still runs keeps its number until its status comes.
  func forget(_ name: Int) {
    let pumps = look(name) { [$0.output, $0.errorOutput] } ?? []
    change(name) { record in
      record.isForgotten = true
      return record.hangUpFrames()
    }
    state.withLock { $0.removeForgotten(name) }
    for pump in pumps { pump.abandon() }
  }

  // MARK: The first command

  /// How far the command has come.
  public var progress: Progress { look(0) { $0.progress } ?? .waiting }

  /// Calls `hook` once when the command has ended, was refused, or the channel has failed. On a processor's thread, so it should only
  /// wake somebody.
  public func whenOver(_ hook: @escaping @Sendable () -> Void) {
    change(0) { record in
      record.whenOver = hook
      return []
    }
  }

  /// The terminal has another size now.
  public func resize(_ size: CommandOrder.Size) { change(0, isUrgent: false) { $0.sizeFrames(size) } }

  /// The command gets a signal, by Linux' number.
  public func signal(_ number: UInt8) { change(0, isUrgent: false) { $0.signalFrames(number) } }

  /// Whether there is a command to read it.
  public var isListening: Bool { progress == .running }

  /// Whether the command has closed its standard input: then whatever comes is dropped.
  public var isUnwanted: Bool { look(0) { $0.inputIsUnwanted } ?? true }

  /// See `ConsoleInput`.
  public func whenRoomForInput(_ hook: @escaping @Sendable () -> Void) {
    change(0) { record in
      record.whenRoomForInput = hook
      return []
    }
  }

  /// Takes as much as the guest has room for.
  public func receive(_ bytes: UnsafeRawBufferPointer) -> Int { receive(0, bytes) }

  /// After the last byte that `receive` took, there is nothing more.
  public func endInput() {
    change(0) { record in
      record.inputHasEnded = true
      return record.endFrames()
    }
  }

  // MARK: The line

  /// What the guest transmits.
  public func write(_ bytes: UnsafeRawBufferPointer) {
    let (hooks, hasOutgoing) = state.withLock { state -> ([@Sendable () -> Void], Bool) in
      var hooks: [@Sendable () -> Void] = []
      for byte in bytes {
        if state.isOver { break }
        do throws(ChannelFrameReader.Fault) {
          guard let frame = try state.reader.take(byte) else { continue }
          let changed = try state.answer(frame).map { [$0] } ?? Array(state.records.keys)
          for name in changed {
            hooks += state.records[name]?.takeHooks() ?? []
            state.removeForgotten(name)
          }
        } catch {
          hooks += state.fail(error.description)
        }
      }
      return (hooks, !state.outgoing.isEmpty)
    }
    if hasOutgoing { handOver() }
    for hook in hooks { hook() }
  }

  /// Gives the port what it takes.
  private func handOver() {
    guard let port = port.withLock({ $0 }) else { return }
    state.withLock { state in
      guard !state.outgoing.isEmpty, !state.isOver else { return }
      state.taken += state.outgoing.withUnsafeBytes {
        port.receive(UnsafeRawBufferPointer(rebasing: $0[state.taken...]))
      }
      if state.taken == state.outgoing.count {
        state.outgoing.removeAll(keepingCapacity: true)
        state.taken = 0
      } else if state.taken >= Self.removalStep {
        state.outgoing.removeFirst(state.taken)
        state.taken = 0
      }
    }
  }

  /// A credit's bytes.
  static func credit(_ frame: ChannelFrame) throws(ChannelFrameReader.Fault) -> Int {
    guard let count = frame.number(at: 0), count <= UInt32(creditLimit) else {
      throw ChannelFrameReader.Fault(description: "a credit came that makes no sense")
    }
    return Int(count)
  }

  // MARK: The end

  /// Returns when the sinks have delivered everything that the first command said.
  public func finish() { finish(0) }

  /// Drops what the sinks have not delivered of it.
  public func abandon() {
    for pump in look(0, { [$0.output, $0.errorOutput] }) ?? [] { pump.abandon() }
  }

  /// Lets the first command's sinks go.
  public func close() {
    for pump in look(0, { [$0.output, $0.errorOutput] }) ?? [] { pump.close() }
  }

  /// Returns when a command's sinks have delivered everything.
  func finish(_ name: Int) {
    for pump in look(name, { [$0.output, $0.errorOutput] }) ?? [] { pump.finish() }
  }
}
