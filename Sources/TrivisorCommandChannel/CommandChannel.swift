// The host's end of the command channel: a serial port's other side.
//
//     HostLoop ──receive, endInput──▶ frames ──▶ port's FIFO ──▶ the guest's first process ──▶ the command
//     sinks ◀── OutputPump (a thread each) ◀── frames ◀── what the guest transmits, on the processor's thread
//
// Nothing here waits: what the port does not take stays in `outgoing`, which credit keeps small, and goes on when the port
// calls; what the guest sends goes into the pumps, which have room for it, because it has no credit for more.
//
// Lock order: `state` before the port's lock, and before a pump's. Pumps call back with no lock held.

import Synchronization
import TrivisorVMM

/// Runs one command in a guest whose first process speaks the channel's protocol.
public final class CommandChannel: SerialSink, ConsoleInput {
  /// How far the command has come.
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
    var progress = Progress.waiting
    var reader = ChannelFrameReader()
    /// Frames for the guest; the port has taken the first `taken` bytes.
    var outgoing: [UInt8] = []
    var taken = 0
    var order: ArraySlice<UInt8>
    /// What the guest takes of the order and of the input.
    var orderCredit = 0
    var inputCredit = 0
    /// What the guest may still send of output and error.
    var outputCredit = OutputPump.window
    var errorCredit = OutputPump.window
    /// What has gone to the sinks without new credit for it.
    var outputGone = 0
    var errorGone = 0
    var inputHasEnded = false
    var endIsSent = false
    var inputIsUnwanted = false
    /// The host has bytes that were not taken.
    var hasRefusedInput = false
    var size: CommandOrder.Size?
    var whenRoomForInput: (@Sendable () -> Void)?
    var whenOver: (@Sendable () -> Void)?

    /// Input goes behind the whole order.
    var takesInput: Bool { progress == .running && order.isEmpty }

    /// The command has ended, or nothing can be known of it any more.
    var isOver: Bool {
      switch progress {
      case .ended, .failed, .refused: true
      case .waiting, .running: false
      }
    }
  }

  /// New credit is given for so much at least: a frame for each line would double the traffic.
  private static let creditStep = OutputPump.window / 4

  private let state: Mutex<State>
  private let pumps: Pumps
  private let port = Mutex<(any ConsoleInput)?>(nil)

  /// The two output streams; apart, because they call back into the channel.
  private final class Pumps: Sendable {
    private let list = Mutex<[OutputPump]>([])
    func set(_ pumps: [OutputPump]) { list.withLock { $0 = pumps } }
    subscript(_ stream: ChannelStream) -> OutputPump? {
      let list = list.withLock { $0 }
      guard list.count == 2 else { return nil }
      return stream == .output ? list[0] : stream == .error ? list[1] : nil
    }
    var all: [OutputPump] { list.withLock { $0 } }
  }

  /// - Parameters:
  ///   - order: given to the guest as soon as it opens the channel.
  ///   - output: gets the command's standard output, or all that its terminal shows.
  ///   - errorOutput: gets its standard error output.
  /// - Throws: `CommandOrder.Refusal`.
  public init(
    _ order: CommandOrder, output: any SerialSink, errorOutput: any SerialSink
  ) throws(CommandOrder.Refusal) {
    state = Mutex(State(order: try order.bytes()[...]))
    pumps = Pumps()
    pumps.set([
      OutputPump(output) { [weak self] count in self?.hasGone(.output, count) },
      OutputPump(errorOutput) { [weak self] count in self?.hasGone(.error, count) },
    ])
  }

  /// How far the command has come.
  public var progress: Progress { state.withLock { $0.progress } }

  /// The port on whose other side this is.
  public func connect(_ port: any ConsoleInput) {
    self.port.withLock { $0 = port }
    port.whenRoomForInput { [weak self] in self?.handOver() }
  }

  /// Calls `hook` once when the command has ended, was refused, or the channel has failed. On a processor's thread, so it should only
  /// wake somebody.
  public func whenOver(_ hook: @escaping @Sendable () -> Void) {
    state.withLock { $0.whenOver = hook }
  }

  /// The terminal has another size now.
  public func resize(_ size: CommandOrder.Size) {
    state.withLock { state in
      guard state.progress == .running else {
        state.size = size
        return
      }
      state.outgoing += ChannelFrame(.size, .input, size.bytes).bytes
    }
    handOver()
  }

  // MARK: Input

  /// Whether there is a command to read it.
  public var isListening: Bool { state.withLock { $0.progress == .running } }

  /// Whether the command has closed its standard input: then whatever comes is dropped.
  public var isUnwanted: Bool { state.withLock { $0.inputIsUnwanted } }

  /// See `ConsoleInput`.
  public func whenRoomForInput(_ hook: @escaping @Sendable () -> Void) {
    state.withLock { $0.whenRoomForInput = hook }
  }

  /// Takes as much as the guest has room for.
  public func receive(_ bytes: UnsafeRawBufferPointer) -> Int {
    let taken = state.withLock { state -> Int in
      if state.inputIsUnwanted || state.isOver { return bytes.count }
      let taken = state.takesInput ? min(bytes.count, state.inputCredit) : 0
      var rest = UnsafeRawBufferPointer(rebasing: bytes[..<taken])
      while !rest.isEmpty {
        let part = rest.prefix(ChannelFrame.contentLimit)
        state.outgoing += ChannelFrame(.data, .input, Array(part)).bytes
        rest = UnsafeRawBufferPointer(rebasing: rest[part.count...])
      }
      state.inputCredit -= taken
      state.hasRefusedInput = taken < bytes.count
      return taken
    }
    handOver()
    return taken
  }

  /// After the last byte that `receive` took, there is nothing more.
  public func endInput() {
    state.withLock { state in
      state.inputHasEnded = true
      sendEnd(&state)
    }
    handOver()
  }

  private func sendEnd(_ state: inout State) {
    guard state.inputHasEnded, !state.endIsSent, state.takesInput else { return }
    state.endIsSent = true
    state.outgoing += ChannelFrame(.end, .input).bytes
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
          try answer(frame, &state)
        } catch {
          state.progress = .failed(error.description)
        }
        if state.isOver, let hook = state.whenOver {
          state.whenOver = nil
          hooks.append(hook)
        }
        if state.hasRefusedInput, state.takesInput && state.inputCredit > 0 || state.inputIsUnwanted,
          let hook = state.whenRoomForInput
        {
          state.hasRefusedInput = false
          hooks.append(hook)
        }
      }
      return (hooks, !state.outgoing.isEmpty)
    }
    if hasOutgoing { handOver() }
    for hook in hooks { hook() }
  }

  private func answer(_ frame: ChannelFrame, _ state: inout State) throws(ChannelFrameReader.Fault) {
    switch (frame.kind, frame.stream) {
    case (.hello, _):
      guard state.progress == .waiting, let version = frame.number(at: 8), let window = frame.number(at: 12),
        (1...(1 << 20)).contains(window)
      else { throw ChannelFrameReader.Fault(description: "a hello came that makes no sense") }
      guard version == ChannelFrame.version else {
        throw ChannelFrameReader.Fault(
          description: "the guest speaks version \(version) of the protocol instead of \(ChannelFrame.version)")
      }
      state.progress = .running
      (state.orderCredit, state.inputCredit) = (Int(window), Int(window))
      sendOrder(&state)
    case (.credit, .order), (.credit, .input):
      guard let count = frame.number(at: 0), count <= 1 << 20 else {
        throw ChannelFrameReader.Fault(description: "a credit came that makes no sense")
      }
      if frame.stream == .order {
        state.orderCredit = min(state.orderCredit + Int(count), 1 << 20)
        sendOrder(&state)
      } else {
        state.inputCredit = min(state.inputCredit + Int(count), 1 << 20)
      }
    case (.data, .output), (.data, .error):
      try spend(frame.contents.count, of: frame.stream, &state)
      guard pumps[frame.stream]?.append(frame.contents) ?? false else {
        throw ChannelFrameReader.Fault(description: "more output came than there was room for")
      }
    case (.end, .input): state.inputIsUnwanted = true
    case (.status, _):
      guard let status = CommandStatus(frame.contents) else {
        throw ChannelFrameReader.Fault(description: "a status came that makes no sense")
      }
      state.progress = .ended(status)
    case (.refusal, _):
      // A guest's words go to a terminal.
      let text = frame.contents.map { (0x20...0x7e).contains($0) || $0 >= 0x80 ? $0 : UInt8(ascii: "?") }
      state.progress = .refused(String(decoding: text, as: UTF8.self))
    default:
      throw ChannelFrameReader.Fault(
        description: "a frame of kind \(frame.kind) for the stream \(frame.stream) came, which only the host sends")
    }
  }

  private func spend(
    _ count: Int, of stream: ChannelStream, _ state: inout State
  ) throws(ChannelFrameReader.Fault) {
    let rest = (stream == .output ? state.outputCredit : state.errorCredit) - count
    guard rest >= 0 else { throw ChannelFrameReader.Fault(description: "more output came than was asked for") }
    if stream == .output { state.outputCredit = rest } else { state.errorCredit = rest }
  }

  /// As much of the order as the guest takes; behind its end, what belongs to the start.
  private func sendOrder(_ state: inout State) {
    guard !state.order.isEmpty else { return }
    while state.orderCredit > 0, !state.order.isEmpty {
      let part = state.order.prefix(min(state.orderCredit, ChannelFrame.contentLimit))
      state.outgoing += ChannelFrame(.order, .order, Array(part)).bytes
      state.order = state.order.dropFirst(part.count)
      state.orderCredit -= part.count
    }
    guard state.order.isEmpty else { return }
    if let size = state.size { state.outgoing += ChannelFrame(.size, .input, size.bytes).bytes }
    for stream in [ChannelStream.output, .error] {
      state.outgoing += ChannelFrame.credit(stream, UInt32(OutputPump.window)).bytes
    }
    state.outgoing += ChannelFrame(.start).bytes
    sendEnd(&state)
  }

  private func hasGone(_ stream: ChannelStream, _ count: Int) {
    let sends = state.withLock { state -> Bool in
      let gone = (stream == .output ? state.outputGone : state.errorGone) + count
      let sends = gone >= Self.creditStep && !state.isOver
      if stream == .output { state.outputGone = sends ? 0 : gone } else { state.errorGone = sends ? 0 : gone }
      guard sends else { return false }
      if stream == .output { state.outputCredit += gone } else { state.errorCredit += gone }
      state.outgoing += ChannelFrame.credit(stream, UInt32(gone)).bytes
      return true
    }
    if sends { handOver() }
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
      } else if state.taken >= Self.creditStep {
        state.outgoing.removeFirst(state.taken)
        state.taken = 0
      }
    }
  }

  // MARK: The end

  /// Returns when the sinks have delivered everything.
  public func finish() {
    for pump in pumps.all { pump.finish() }
  }

  /// Drops what the sinks have not delivered.
  public func abandon() {
    for pump in pumps.all { pump.abandon() }
  }

  /// Lets the sinks go.
  public func close() {
    for pump in pumps.all { pump.close() }
  }
}
