/// What the channel knows of one command: its order as far as it has not gone, what either side may send, how far it has come.
struct CommandRecord {
  /// By which the guest knows it.
  let number: Int
  var progress = CommandChannel.Progress.waiting
  /// What has not gone of the order.
  var order: ArraySlice<UInt8>
  /// What the guest takes of the input.
  var inputCredit = 0
  /// What the guest may still send.
  private var outputCredit = OutputPump.window
  private var errorCredit = OutputPump.window
  /// What has gone to the sinks without new credit for it.
  private var outputGone = 0
  private var errorGone = 0
  var inputHasEnded = false
  private var endIsSent = false
  var inputIsUnwanted = false
  /// The host has bytes that were not taken.
  var hasRefusedInput = false
  /// Nobody takes the output any more.
  private var isHungUp = false
  var size: CommandOrder.Size?
  /// Nobody asks for it any more.
  var isForgotten = false
  var whenRoomForInput: (@Sendable () -> Void)?
  var whenOver: (@Sendable () -> Void)?
  let output: OutputPump
  let errorOutput: OutputPump

  /// New credit is given for so much at least: a frame for each line would double the traffic.
  private static let creditStep = OutputPump.window / 4

  init(number: Int, order: [UInt8], output: OutputPump, errorOutput: OutputPump) {
    self.number = number
    self.order = order[...]
    self.output = output
    self.errorOutput = errorOutput
  }

  /// Input goes behind the whole order.
  var takesInput: Bool { progress == .running && order.isEmpty }

  /// The command has ended, or nothing can be known of it any more.
  var isOver: Bool {
    switch progress {
    case .ended, .failed, .refused: true
    case .waiting, .running: false
    }
  }

  /// The guest has opened the channel, and takes so much of the input.
  mutating func open(window: Int) {
    guard progress == .waiting else { return }
    progress = .running
    inputCredit = window
  }

  // MARK: To the guest: each gives frames

  /// The next part of the order, and behind its end what belongs to the start.
  /// - Parameter credit: what the guest takes of orders; less by what goes.
  mutating func orderFrames(credit: inout Int) -> [ChannelFrame] {
    guard !order.isEmpty else { return [] }
    var frames: [ChannelFrame] = []
    while credit > 0, !order.isEmpty {
      let part = order.prefix(min(credit, ChannelFrame.contentLimit))
      frames.append(frame(.order, .order, Array(part)))
      order = order.dropFirst(part.count)
      credit -= part.count
    }
    guard order.isEmpty else { return frames }
    if let size { frames.append(frame(.size, .input, size.bytes)) }
    for stream in [ChannelStream.output, .error] {
      frames.append(.credit(stream, UInt32(OutputPump.window), session: number))
    }
    frames.append(frame(.start))
    if isHungUp { frames.append(frame(.end, .output)) }
    return frames + endFrames()
  }

  /// As much input as the guest has room for.
  /// - Returns: how many bytes that is, and their frames.
  mutating func inputFrames(_ bytes: UnsafeRawBufferPointer) -> (taken: Int, frames: [ChannelFrame]) {
    if inputIsUnwanted || isOver { return (bytes.count, []) }
    let taken = takesInput ? min(bytes.count, inputCredit) : 0
    var frames: [ChannelFrame] = []
    var rest = UnsafeRawBufferPointer(rebasing: bytes[..<taken])
    while !rest.isEmpty {
      let part = rest.prefix(ChannelFrame.contentLimit)
      frames.append(frame(.data, .input, Array(part)))
      rest = UnsafeRawBufferPointer(rebasing: rest[part.count...])
    }
    inputCredit -= taken
    hasRefusedInput = taken < bytes.count
    return (taken, frames)
  }

  /// The end of the input, once there is a command to hear of it.
  mutating func endFrames() -> [ChannelFrame] {
    guard inputHasEnded, !endIsSent, takesInput else { return [] }
    endIsSent = true
    return [frame(.end, .input)]
  }

  /// The terminal's new size.
  mutating func sizeFrames(_ size: CommandOrder.Size) -> [ChannelFrame] {
    self.size = size
    return takesInput ? [frame(.size, .input, size.bytes)] : []
  }

  /// A signal, once there is a command to get it.
  func signalFrames(_ signal: UInt8) -> [ChannelFrame] { takesInput ? [frame(.signal, .input, [signal])] : [] }

  /// Nobody takes what the command says, nor gives it input.
  mutating func hangUpFrames() -> [ChannelFrame] {
    guard !isHungUp, !isOver else { return [] }
    isHungUp = true
    inputHasEnded = true
    return takesInput ? [frame(.end, .output)] + endFrames() : []
  }

  /// What the sinks have taken is new credit for the guest, now and then.
  mutating func creditFrames(_ stream: ChannelStream, gone count: Int) -> [ChannelFrame] {
    let gone = (stream == .output ? outputGone : errorGone) + count
    let sends = gone >= Self.creditStep && !isOver
    if stream == .output { outputGone = sends ? 0 : gone } else { errorGone = sends ? 0 : gone }
    guard sends else { return [] }
    if stream == .output { outputCredit += gone } else { errorCredit += gone }
    return [.credit(stream, UInt32(gone), session: number)]
  }

  private func frame(
    _ kind: ChannelFrameKind, _ stream: ChannelStream = .input, _ contents: [UInt8] = []
  ) -> ChannelFrame { ChannelFrame(kind, stream, contents, session: number) }

  // MARK: From the guest

  /// Takes what the guest sends of this command.
  mutating func answer(_ frame: ChannelFrame) throws(ChannelFrameReader.Fault) {
    switch (frame.kind, frame.stream) {
    case (.credit, .input):
      inputCredit = min(inputCredit + (try CommandChannel.credit(frame)), CommandChannel.creditLimit)
    case (.data, .output), (.data, .error):
      try spend(frame.contents.count, of: frame.stream)
      guard (frame.stream == .output ? output : errorOutput).append(frame.contents) else {
        throw ChannelFrameReader.Fault(description: "more output came than there was room for")
      }
    case (.end, .input): inputIsUnwanted = true
    case (.status, _):
      guard let status = CommandStatus(frame.contents) else {
        throw ChannelFrameReader.Fault(description: "a status came that makes no sense")
      }
      progress = .ended(status)
    case (.refusal, _):
      // A guest's words go to a terminal.
      let text = frame.contents.map { (0x20...0x7e).contains($0) || $0 >= 0x80 ? $0 : UInt8(ascii: "?") }
      progress = .refused(String(decoding: text, as: UTF8.self))
    default:
      throw ChannelFrameReader.Fault(
        description: "a frame of kind \(frame.kind) for the stream \(frame.stream) came, which only the host sends")
    }
  }

  private mutating func spend(_ count: Int, of stream: ChannelStream) throws(ChannelFrameReader.Fault) {
    let rest = (stream == .output ? outputCredit : errorCredit) - count
    guard rest >= 0 else { throw ChannelFrameReader.Fault(description: "more output came than was asked for") }
    if stream == .output { outputCredit = rest } else { errorCredit = rest }
  }

  /// Who is to be woken after something came.
  mutating func takeHooks() -> [@Sendable () -> Void] {
    var hooks: [@Sendable () -> Void] = []
    if isOver, let hook = whenOver {
      whenOver = nil
      hooks.append(hook)
    }
    if hasRefusedInput, takesInput && inputCredit > 0 || inputIsUnwanted || isOver, let hook = whenRoomForInput {
      hasRefusedInput = false
      hooks.append(hook)
    }
    return hooks
  }
}
