import TrivisorCommandChannel
import TrivisorVMM

/// What a guest's first process writes to its command's port; the second half of the inputs is orders of other programs.
final class ChannelTarget: FuzzTarget {
  static let name = "channel"

  private final class Nowhere: SerialSink {
    func write(_ bytes: UnsafeRawBufferPointer) {}
    func finish() {}
    func abandon() {}
  }

  private final class Line: ConsoleInput {
    let isListening = true
    func receive(_ bytes: UnsafeRawBufferPointer) -> Int { bytes.count }
    func whenRoomForInput(_ hook: @escaping @Sendable () -> Void) {}
  }

  static var seeds: [[UInt8]] {
    let hello = ChannelFrame.greeting + ChannelFrame.hello(window: 5000).bytes
    let order = try? CommandOrder(
      .words([Array("echo".utf8), Array("a b".utf8)]), environment: ["A=b"], terminal: .init(columns: 80, rows: 25)
    ).bytes()
    return [
      [0] + hello + ChannelFrame(.data, .output, Array("text".utf8)).bytes + ChannelFrame(.end, .output).bytes
        + ChannelFrame(.end, .error).bytes + ChannelFrame(.status, .order, CommandStatus.exited(3).contents).bytes,
      [0] + hello + ChannelFrame.credit(.input, 100).bytes + ChannelFrame.credit(.order, 4096).bytes,
      [1] + (order ?? []),
    ]
  }

  init() {}

  func run(_ bytes: UnsafeRawBufferPointer) {
    var input = FuzzInput(bytes)
    if input.byte() & 1 == 1 {
      guard let order = try? CommandOrder(Array(input.remainder())) else { return }
      precondition((try? CommandOrder(order.bytes())) == order)
      return
    }
    let nowhere = Nowhere()
    guard let channel = try? CommandChannel(CommandOrder(.shell("true")), output: nowhere, errorOutput: nowhere) else {
      return
    }
    channel.connect(Line())
    while !input.isEmpty {
      channel.write(input.bytes(64))
      _ = [UInt8](repeating: 7, count: 16).withUnsafeBytes { channel.receive($0) }
    }
    channel.abandon()
    _ = channel.progress
    channel.close()
  }
}
