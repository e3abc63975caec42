import TrivisorCommandChannel
import TrivisorDevices
import TrivisorVMM
import Synchronization
import Testing

/// A serial port's place: takes what there is room for, and takes the rest when it is read.
private final class Line: ConsoleInput {
  private struct State {
    var bytes: [UInt8] = []
    var room = 16
    var hook: (@Sendable () -> Void)?
  }

  private let state = Mutex(State())
  var isListening: Bool { true }

  func whenRoomForInput(_ hook: @escaping @Sendable () -> Void) { state.withLock { $0.hook = hook } }

  func receive(_ bytes: UnsafeRawBufferPointer) -> Int {
    state.withLock { state in
      let taken = min(bytes.count, state.room)
      state.bytes += bytes[..<taken]
      state.room -= taken
      return taken
    }
  }

  /// All that comes, in frames.
  func frames() throws -> [ChannelFrame] {
    while true {
      let (hook, isFull) = state.withLock { state in
        let isFull = state.room == 0
        state.room = 16
        return (state.hook, isFull)
      }
      if !isFull { break }
      hook?()
    }
    let bytes = state.withLock { state in
      defer { state.bytes = [] }
      return state.bytes
    }
    // The reader waits for a hello, which a host does not send.
    var reader = ChannelFrameReader()
    return try (ChannelFrame.hello(window: 1).bytes + bytes).compactMap { try reader.take($0) }.dropFirst().map { $0 }
  }
}

/// Takes nothing until it is told to, or abandoned.
private final class StuckSink: SerialSink {
  private let isFree = Mutex(false)
  let inner = MemorySink()
  func free() { isFree.withLock { $0 = true } }
  func write(_ bytes: UnsafeRawBufferPointer) {
    while !isFree.withLock({ $0 }) {}
    inner.write(bytes)
  }
  func finish() {}
  func abandon() { free() }
}

@Suite("The command channel, seen from the guest")
struct CommandChannelTests {
  private let line = Line()
  private let output = MemorySink()
  private let errors = MemorySink()

  private func channel(_ order: CommandOrder = CommandOrder(.shell("true"))) throws -> CommandChannel {
    let channel = try CommandChannel(order, output: output, errorOutput: errors)
    channel.connect(line)
    return channel
  }

  private func send(_ frames: ChannelFrame..., to channel: CommandChannel) {
    // A serial port hands over one byte at a time.
    for byte in frames.flatMap(\.bytes) { withUnsafeBytes(of: byte) { channel.write($0) } }
  }

  @Test("nothing comes before the hello; then the order, as far as there is credit for it")
  func order() throws {
    let order = CommandOrder(.shell(String(repeating: "x", count: 10_000)))
    let channel = try channel(order)
    #expect(channel.receive([1, 2, 3]) == 0)
    #expect(try line.frames() == [])
    #expect(channel.progress == .waiting)
    send(.hello(window: 6000), to: channel)
    var bytes: [UInt8] = []
    var frames = try line.frames()
    #expect(frames.map(\.kind) == [.order, .order])
    bytes += frames.flatMap(\.contents)
    #expect(bytes.count == 6000)
    // Input would overtake it.
    #expect(channel.receive([1, 2, 3]) == 0)
    send(.credit(.order, 6000), to: channel)
    frames = try line.frames()
    #expect(frames.map(\.kind) == [.order, .credit, .credit, .start])
    bytes += frames[0].contents
    #expect(try bytes == order.bytes())
    #expect(channel.progress == .running)
  }

  @Test("input goes as far as there is credit, its end behind it")
  func input() throws {
    let channel = try channel()
    let calls = Mutex(0)
    channel.whenRoomForInput { calls.withLock { $0 += 1 } }
    // Refused before there is anybody: to be offered again.
    #expect(channel.receive([1]) == 0)
    send(.hello(window: 5000), to: channel)
    _ = try line.frames()
    #expect(calls.withLock { $0 } == 1)
    calls.withLock { $0 = 0 }
    let bytes = (0..<8000).map { UInt8(truncatingIfNeeded: $0 &* 7) }
    #expect(channel.receive(bytes) == 5000)
    #expect(try line.frames().flatMap(\.contents) == Array(bytes[..<5000]))
    #expect(calls.withLock { $0 } == 0)
    send(.credit(.input, 4000), to: channel)
    #expect(calls.withLock { $0 } == 1)
    #expect(channel.receive(Array(bytes[5000...])) == 3000)
    channel.endInput()
    let frames = try line.frames()
    #expect(frames.last == ChannelFrame(.end, .input))
    #expect(frames.flatMap(\.contents) == Array(bytes[5000...]))
  }

  @Test("an end of the input that comes before the command is told when there is one")
  func earlyEnd() throws {
    let channel = try channel()
    channel.endInput()
    send(.hello(window: 5000), to: channel)
    #expect(try line.frames().last == ChannelFrame(.end, .input))
  }

  @Test("input that nobody reads is dropped")
  func unwanted() throws {
    let channel = try channel()
    send(.hello(window: 10), ChannelFrame(.end, .input), to: channel)
    #expect(channel.isUnwanted)
    #expect(channel.receive([UInt8](repeating: 0, count: 100)) == 100)
  }

  @Test("the guest says why the command can't be run; its words are made fit for a terminal")
  func refusal() throws {
    let channel = try channel()
    send(
      .hello(window: 6000), ChannelFrame(.refusal, .input, Array("no overlay\u{1b}[2J".utf8)),
      ChannelFrame(.status, .input, [0, 0]), to: channel)
    #expect(channel.progress == .refused("no overlay?[2J"))
  }

  @Test("output and error come apart and whole, behind them the status")
  func outputAndError() throws {
    let channel = try channel()
    let calls = Mutex(0)
    channel.whenOver { calls.withLock { $0 += 1 } }
    send(
      .hello(window: 10), ChannelFrame(.data, .output, [1, 2]), ChannelFrame(.data, .error, [3]),
      ChannelFrame(.data, .output, [4]), ChannelFrame(.status, .input, [1, 9]), ChannelFrame(.status, .input, [0, 0]),
      to: channel)
    channel.finish()
    #expect(output.bytes == [1, 2, 4])
    #expect(errors.bytes == [3])
    #expect(channel.progress == .ended(.killed(signal: 9)))
    #expect(CommandStatus.killed(signal: 9).code == 137)
    #expect(calls.withLock { $0 } == 1)
  }

  @Test("output that nobody takes holds up neither the input nor the other stream, and goes on later")
  func blockedOutput() throws {
    let stuck = StuckSink()
    let channel = try CommandChannel(CommandOrder(.shell("true")), output: stuck, errorOutput: errors)
    channel.connect(line)
    send(.hello(window: 100), to: channel)
    let credit = try #require(try line.frames().first { $0.kind == .credit && $0.stream == .output })
    let window = Int(credit.contents[0]) | Int(credit.contents[1]) << 8 | Int(credit.contents[2]) << 16
    for _ in 0..<(window / 4096) {
      send(ChannelFrame(.data, .output, [UInt8](repeating: 7, count: 4096)), to: channel)
    }
    send(ChannelFrame(.data, .error, [1]), to: channel)
    #expect(channel.receive([5]) == 1)
    #expect(try line.frames() == [ChannelFrame(.data, .input, [5])])
    #expect(channel.progress == .running)
    stuck.free()
    channel.finish()
    #expect(stuck.inner.bytes.count == window / 4096 * 4096)
    #expect(errors.bytes == [1])
    let granted = try line.frames().filter { $0.kind == .credit && $0.stream == .output }
    #expect(!granted.isEmpty)
  }

  @Test(
    "what no guest of ours sends ends the channel",
    arguments: [
      ChannelFrame(.start), ChannelFrame(.order, .order, [1]), .hello(window: 10), ChannelFrame(.data, .input, [1]),
      ChannelFrame(.data, .order, [1]), ChannelFrame(.credit, .output, [1, 0, 0, 0]),
      ChannelFrame(.credit, .input, [1]),
      .credit(.input, .max), ChannelFrame(.status, .input, [0]), ChannelFrame(.status, .input, [1, 200]),
      ChannelFrame(.status, .input, [7, 0]), ChannelFrame(.end, .output), ChannelFrame(.size),
    ])
  func hostile(frame: ChannelFrame) throws {
    let channel = try channel()
    send(.hello(window: 10), frame, to: channel)
    guard case .failed = channel.progress else {
      Issue.record("\(channel.progress)")
      return
    }
  }

  @Test("hellos that make no sense", arguments: [(UInt32(2), UInt32(10)), (1, 0), (1, .max)])
  func badHello(version: UInt32, window: UInt32) throws {
    let channel = try channel()
    send(.hello(version: version, window: window), to: channel)
    guard case .failed = channel.progress else {
      Issue.record("\(channel.progress)")
      return
    }
  }

  @Test("more output than was asked for ends the channel")
  func flood() throws {
    let stuck = StuckSink()
    let channel = try CommandChannel(CommandOrder(.shell("true")), output: stuck, errorOutput: errors)
    channel.connect(line)
    send(.hello(window: 100), to: channel)
    for _ in 0..<17 { send(ChannelFrame(.data, .output, [UInt8](repeating: 7, count: 4096)), to: channel) }
    #expect(channel.progress == .failed("more output came than was asked for"))
    channel.abandon()
  }

  @Test("any frames at all: an end, and no trap")
  func fuzz() throws {
    var generator = SystemRandomNumberGenerator()
    for _ in 0..<300 {
      let channel = try channel()
      send(.hello(window: .random(in: 0...5000, using: &generator)), to: channel)
      for _ in 0..<60 {
        let kind = ChannelFrameKind.allCases.randomElement(using: &generator) ?? .data
        let stream = ChannelStream.allCases.randomElement(using: &generator) ?? .input
        let contents = (0..<Int.random(in: 0...20, using: &generator)).map { _ in
          UInt8.random(in: .min ... .max, using: &generator)
        }
        var bytes = ChannelFrame(kind, stream, contents).bytes
        if Bool.random(using: &generator) { bytes[Int.random(in: bytes.indices, using: &generator)] &+= 1 }
        bytes.withUnsafeBytes { channel.write($0) }
        _ = channel.receive([1, 2, 3])
        _ = try? line.frames()
      }
      channel.abandon()
    }
  }
}
