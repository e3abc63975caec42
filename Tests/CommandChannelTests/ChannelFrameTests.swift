import TrivisorCommandChannel
import Testing

@Suite("Frames of the command channel")
struct ChannelFrameTests {
  private static let hello = ChannelFrame.hello(window: 100).bytes

  private func frames(_ bytes: [UInt8]) throws -> [ChannelFrame] {
    var reader = ChannelFrameReader()
    return try bytes.compactMap { try reader.take($0) }
  }

  @Test("what is written is read")
  func roundTrip() throws {
    let sent = [
      ChannelFrame.hello(window: 16384), ChannelFrame(.data, .output, Array("hi\n".utf8)),
      ChannelFrame(.data, .error, (0..<4096).map { UInt8(truncatingIfNeeded: $0) }), ChannelFrame(.end, .input),
      .credit(.input, 0x0102_0304), ChannelFrame(.status, .input, [0, 3]),
    ]
    #expect(try frames(sent.flatMap(\.bytes)) == sent)
  }

  @Test(
    "what was on the line before the hello is skipped",
    arguments: [
      [], [1], [1, 0], [1, 1, 0, 1, 0, 16], Array("Linux version 6.1\r\n\u{1}".utf8), Array(hello.dropLast(9)),
      [UInt8](repeating: 0xff, count: 5000),
    ])
  func noise(before: [UInt8]) throws {
    #expect(try frames(before + Self.hello + ChannelFrame(.end, .input).bytes).map(\.kind) == [.hello, .end])
  }

  @Test(
    "what is no frame is a fault",
    arguments: [[4, 0, 1, 16], [0, 0, 0, 0], [13, 0, 0, 0], [4, 128, 0, 0], [255, 0, 0, 0]])
  func faults(head: [UInt8]) throws {
    #expect(throws: ChannelFrameReader.Fault.self) { try frames(Self.hello + head) }
  }

  @Test("any bytes are frames or a fault, and never more than one frame is kept")
  func fuzz() {
    var generator = SystemRandomNumberGenerator()
    for _ in 0..<2000 {
      var reader = ChannelFrameReader()
      var bytes = Self.hello
      for _ in 0..<Int.random(in: 0..<40, using: &generator) {
        switch Int.random(in: 0..<4, using: &generator) {
        case 0: bytes.append(.random(in: .min ... .max, using: &generator))
        case 1: bytes += [4, 1, .random(in: 0...8, using: &generator), 0]
        case 2: bytes += ChannelFrame.credit(.input, .random(in: .min ... .max, using: &generator)).bytes
        default:
          bytes +=
            ChannelFrame(
              .data, .output, [UInt8](repeating: 4, count: Int.random(in: 0...4096, using: &generator))
            ).bytes
        }
      }
      for byte in bytes {
        guard let frame = try? reader.take(byte) else { continue }
        #expect(frame.contents.count <= ChannelFrame.contentLimit)
      }
    }
  }

  @Test("an order from bytes is the one that gave them; any others are an order or a refusal")
  func ordersFromBytes() throws {
    var order = CommandOrder(
      .words([Array("echo".utf8), [], [0xff]]), environment: ["A=b"], terminal: .init(columns: 80, rows: 258))
    order.steps = ["folder=/", "as=x"]
    #expect(try CommandOrder(order.bytes()) == order)
    let text = CommandOrder(.shell("a b"), installsBusybox: true)
    #expect(try CommandOrder(text.bytes()) == text)
    var generator = SystemRandomNumberGenerator()
    let bytes = try order.bytes()
    for _ in 0..<5000 {
      var spoiled = bytes.prefix(.random(in: 0...bytes.count, using: &generator)).map { $0 }
      for _ in 0..<3 where !spoiled.isEmpty {
        spoiled[.random(in: spoiled.indices, using: &generator)] = .random(in: .min ... .max, using: &generator)
      }
      guard let other = try? CommandOrder(spoiled) else { continue }
      #expect((try? other.bytes()) != nil)
    }
  }

  @Test("an order is what it says, or refused")
  func orders() throws {
    let order = CommandOrder(
      .words([Array("echo".utf8), [0xff]]), environment: ["A=b"], terminal: .init(columns: 80, rows: 258))
    #expect(try order.bytes() == [5, 80, 0, 2, 1, 2, 0] + Array("echo\0".utf8) + [0xff, 0] + Array("A=b\0".utf8))
    var steps = order
    steps.steps = ["module=x", "folder=/"]
    #expect(try steps.bytes() == order.bytes() + Array("\0module=x\0folder=/\0".utf8))
    for bad in [
      CommandOrder(.words([])), CommandOrder(.shell("a\0b")),
      CommandOrder(.shell(String(repeating: "x", count: 131072))),
      CommandOrder(.words([[UInt8]](repeating: [1], count: 9000))),
      CommandOrder(.words([[UInt8]](repeating: [UInt8](repeating: 1, count: 131071), count: 5))),
    ] {
      #expect(throws: CommandOrder.Refusal.self) { try bad.bytes() }
    }
    #expect(try CommandOrder(.shell(String(repeating: "x", count: 131071))).bytes().count == 7 + 131072)
  }
}
