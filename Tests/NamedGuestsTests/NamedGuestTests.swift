import Glibc
import Synchronization
import SystemPackage
import Testing
import TrivisorCLinux
import TrivisorCommandChannel
import TrivisorDevices
import TrivisorNamedGuests
import TrivisorVMM

/// A guest's place: answers orders and input as its first process would, without a kernel.
private final class EchoGuest: ConsoleInput {
  private struct State {
    var reader = ChannelFrameReader(waitsForHello: false)
    var orders: [Int: [UInt8]] = [:]
    var signals: [UInt8] = []
    var hungUp: [Int] = []
  }

  private let state = Mutex(State())
  let channel: CommandChannel
  private let replies = Monitor<[[UInt8]]>([])

  init() throws {
    channel = try CommandChannel(CommandOrder(.shell("first")), output: MemorySink(), errorOutput: MemorySink())
    channel.connect(self)
    // A guest answers from a thread of its own.
    let (channel, replies) = (channel, replies)
    _ = DetachedThread.start {
      while true {
        let next = replies.wait { $0.isEmpty ? nil : $0.removeFirst() }
        if next.isEmpty { return }
        next.withUnsafeBytes { channel.write($0) }
      }
    }
    send(.hello(window: 5000))
  }

  func end() { replies.with { $0.append([]) } }

  var signals: [UInt8] { state.withLock { $0.signals } }
  var hungUp: [Int] { state.withLock { $0.hungUp } }

  func send(_ frame: ChannelFrame) { replies.with { $0.append(frame.bytes) } }

  var isListening: Bool { true }
  func whenRoomForInput(_ hook: @escaping @Sendable () -> Void) {}

  func receive(_ bytes: UnsafeRawBufferPointer) -> Int {
    for byte in bytes {
      let frame = state.withLock { try? $0.reader.take(byte) }
      if let frame { answer(frame) }
    }
    return bytes.count
  }

  private func answer(_ frame: ChannelFrame) {
    let number = frame.session
    switch frame.kind {
    case .order:
      state.withLock { $0.orders[number, default: []] += frame.contents }
      send(.credit(.order, UInt32(frame.contents.count), session: number))
    case .data:
      // What is written comes back, to output and error in turn.
      send(ChannelFrame(.data, .output, frame.contents, session: number))
      send(ChannelFrame(.data, .error, [UInt8(ascii: "!")], session: number))
      send(.credit(.input, UInt32(frame.contents.count), session: number))
    case .end where frame.stream == .input:
      guard number > 0 else { return }
      let bytes = state.withLock { $0.orders.removeValue(forKey: number) ?? [] }
      let length = UInt8(truncatingIfNeeded: (try? CommandOrder(bytes))?.environment.count ?? 99)
      send(ChannelFrame(.status, .input, [0, length], session: number))
    case .end: state.withLock { $0.hungUp.append(number) }
    case .signal:
      state.withLock { $0.signals += frame.contents }
      send(ChannelFrame(.status, .input, [1, frame.contents[0]], session: number))
    default: break
    }
  }
}

@Suite("A guest with a name", .serialized)
struct NamedGuestTests {
  private let folder: RuntimeFolder
  private let guest: EchoGuest

  init() throws {
    signal(SIGPIPE, SIG_IGN)
    var path = Array("/tmp/trivisor-test-XXXXXX".utf8CString)
    try #require(mkdtemp(&path) != nil)
    folder = try RuntimeFolder(
      path: FilePath(String(decoding: path.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)))
    guest = try EchoGuest()
  }

  private func serve(_ name: String) throws -> GuestServer {
    let server = try GuestServer(name, in: folder)
    try server.start(
      guest.channel,
      completing: { (order) throws(CommandOrder.Refusal) in
        if order.steps.contains("as=nobody") { throw CommandOrder.Refusal(description: "there is no such user") }
        return order
      },
      answering: { $0 == "balloon" ? .success("1 MiB") : .failure(QuestionRefusal("no \($0) here")) })
    return server
  }

  /// Runs a command whose input is these bytes.
  private func run(
    _ name: String, _ order: CommandOrder = CommandOrder(.shell("x")), input: [UInt8]
  ) throws -> (GuestClient.Outcome, [UInt8], Int) {
    var ends: [Int32] = [-1, -1]
    try #require(pipe(&ends) == 0)
    let (readEnd, writeEnd) = (ends[0], ends[1])
    defer { close(readEnd) }
    let writer = DetachedThread.start {
      var rest = input[...]
      while !rest.isEmpty {
        let count = rest.withUnsafeBytes { write(writeEnd, $0.baseAddress, $0.count) }
        guard count > 0 else { break }
        rest = rest.dropFirst(count)
      }
      close(writeEnd)
    }
    try #require(writer)
    let (output, errors) = (MemorySink(limit: 4 << 20), MemorySink())
    let client = try GuestClient(name, in: folder)
    let outcome = try client.run(
      order, output: output, errorOutput: errors,
      GuestClient.Ends(
        input: readEnd, isTerminal: false, size: { .init(columns: 80, rows: 24) }, whenContinued: {},
        whenHelpWanted: {}))
    return (outcome, output.bytes, errors.bytes.count)
  }

  @Test("a question to who runs the guest has an answer, or a refusal; the guest does not hear of it")
  func questions() throws {
    let server = try serve("asked")
    defer { server.close() }
    #expect(try GuestClient("asked", in: folder).ask("balloon") == "1 MiB")
    #expect(throws: NamedGuestFailure.self) { try GuestClient("asked", in: folder).ask("weather") }
    #expect(try GuestClient("asked", in: folder).ask("balloon") == "1 MiB")
  }

  @Test("input comes back whole, then the status; more than all windows hold")
  func echo() throws {
    let server = try serve("one")
    defer {
      server.close()
      guest.end()
    }
    let bytes = (0..<700_000).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) }
    let order = CommandOrder(.words([Array("cat".utf8)]), environment: ["A=1", "B=2"])
    let (outcome, output, errors) = try run("one", order, input: bytes)
    #expect(outcome == .ended(.exited(2)))
    #expect(output == bytes)
    #expect(errors > 0)
    // The number is free again, and again.
    for _ in 0..<100 { #expect(try run("one", input: [7]).1 == [7]) }
  }

  @Test("many at a time, each with its own bytes")
  func several() throws {
    let server = try serve("many")
    defer {
      server.close()
      guest.end()
    }
    let results = Monitor<[Bool]>([])
    for number in 0..<20 {
      let isStarted = DetachedThread.start {
        let bytes = [UInt8](repeating: UInt8(number), count: 20_000 + number)
        let result = try? run("many", input: bytes)
        results.with { $0.append(result?.1 == bytes && result?.0 == .ended(.exited(0))) }
      }
      try #require(isStarted)
    }
    let all = results.wait { $0.count == 20 ? $0 : nil }
    #expect(all.allSatisfy { $0 })
  }

  @Test("a refusal, by who runs the guest")
  func refusal() throws {
    let server = try serve("one")
    defer {
      server.close()
      guest.end()
    }
    var order = CommandOrder(.shell("x"))
    order.steps = ["as=nobody"]
    #expect(try run("one", order, input: []).0 == .refused("there is no such user"))
  }

  @Test("names: one guest each, none that is no name, and one of a guest that was killed can be had")
  func names() throws {
    let server = try serve("one")
    defer { guest.end() }
    #expect(throws: NamedGuestFailure.self) { try GuestServer("one", in: folder) }
    for name in ["", ".", "..", "a/b", "-a", "a b", String(repeating: "a", count: 65)] {
      #expect(throws: NamedGuestFailure.self) { try GuestServer(name, in: folder) }
    }
    do throws(NamedGuestFailure) {
      _ = try GuestClient("two", in: folder)
      Issue.record("there is a guest 'two'")
    } catch {
      #expect(error.description.contains("there are: one"))
    }
    var status = stat()
    #expect(folder.path.appending("one").withPlatformString { stat($0, &status) } == 0)
    #expect(status.st_mode & 0o777 == 0o600)
    server.close()
    #expect(folder.names.isEmpty)
    // What a killed one leaves behind.
    let dead = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let path = Array(folder.path.appending("one").string.utf8)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path) }
    let isBound = withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(dead, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    #expect(isBound == 0)
    close(dead)
    #expect(folder.names == ["one"])
    let next = try serve("one")
    #expect(try run("one", input: [1]).1 == [1])
    next.close()
  }

  @Test("a client that goes takes its command with it; the guest hears of it")
  func gone() throws {
    let server = try serve("one")
    defer {
      server.close()
      guest.end()
    }
    do {
      let client = try RawClient(folder, "one")
      client.send([
        ChannelFrame(.order, .order, try CommandOrder(.shell("x")).bytes()), .credit(.output, 1000),
        ChannelFrame(.start), ChannelFrame(.data, .input, [1, 2, 3]),
      ])
      client.waitForData()
    }
    for _ in 0..<500 where guest.hungUp.isEmpty { usleep(10_000) }
    #expect(guest.hungUp == [1])
  }

  @Test("a signal reaches the command")
  func signals() throws {
    let server = try serve("one")
    defer {
      server.close()
      guest.end()
    }
    let client = try RawClient(folder, "one")
    client.send([
      ChannelFrame(.order, .order, try CommandOrder(.shell("x")).bytes()), .credit(.output, 1000), ChannelFrame(.start),
      ChannelFrame(.data, .input, [1]),
    ])
    client.waitForData()
    client.send([ChannelFrame(.signal, .input, [15])])
    for _ in 0..<500 where guest.signals.isEmpty { usleep(10_000) }
    #expect(guest.signals == [15])
  }

  @Test("whatever a client sends: the server lives")
  func fuzz() throws {
    let server = try serve("one")
    defer {
      server.close()
      guest.end()
    }
    var generator = SystemRandomNumberGenerator()
    for _ in 0..<200 {
      let client = try RawClient(folder, "one")
      var frames: [ChannelFrame] = []
      for _ in 0..<20 {
        let kind = ChannelFrameKind.allCases.randomElement(using: &generator) ?? .data
        let stream = ChannelStream.allCases.randomElement(using: &generator) ?? .input
        let contents = (0..<Int.random(in: 0...20, using: &generator)).map { _ in
          UInt8.random(in: .min ... .max, using: &generator)
        }
        frames.append(ChannelFrame(kind, stream, contents, session: Bool.random(using: &generator) ? 0 : 1))
      }
      client.send(frames)
    }
    #expect(try run("one", input: [9]).1 == [9])
  }
}

/// A client without rules.
private final class RawClient {
  private let raw: Int32

  init(_ folder: RuntimeFolder, _ name: String) throws {
    raw = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let path = Array(folder.path.appending(name).string.utf8)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path) }
    let raw = raw
    let result = withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(raw, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    try #require(result == 0)
  }

  deinit { close(raw) }

  func send(_ frames: [ChannelFrame]) {
    let bytes = frames.flatMap(\.bytes)
    _ = bytes.withUnsafeBytes { Glibc.send(raw, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
  }

  /// Until some output has come.
  func waitForData() {
    var reader = ChannelFrameReader()
    var byte: UInt8 = 0
    while read(raw, &byte, 1) == 1 {
      if let frame = try? reader.take(byte), frame.kind == .data { return }
    }
  }
}
