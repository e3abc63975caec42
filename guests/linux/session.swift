// The command's run: bytes from the channel into the command, and from the command into the channel. Nothing blocks but
// the wait for whatever comes next.

import CLinuxGuest

struct Session {
  /// So long a process that the command has left behind may hold its pipes.
  private static let drainMilliseconds = 250
  /// New credit is given for so much at least.
  private static let creditStep = Int(INPUT_CAPACITY) / 4

  private var channel: Channel
  private var command: Command
  private let signals: Int

  /// What came of the input and the command has not taken, in the input buffer from `inputStart` on, round its end.
  private var inputStart = 0
  private var inputCount = 0
  private var inputTaken = 0
  private var inputHasEnded = false
  private var isUnwanted = false
  /// What the host takes.
  private var outputCredit = 0
  private var errorCredit = 0

  private var status: (how: UInt8, number: UInt8)?
  private var drainEnd = 0
  /// What was in the pipes when the command ended.
  private var outputOwed = 0
  private var errorOwed = 0

  init(_ channel: Channel, _ command: Command, signals: Int, outputCredit: Int, errorCredit: Int) {
    self.channel = channel
    self.command = command
    self.signals = signals
    self.outputCredit = outputCredit
    self.errorCredit = errorCredit
  }

  /// Until the command has ended and all is sent but its status.
  /// - Returns: how it ended.
  mutating func run() -> (how: UInt8, number: UInt8) {
    while true {
      answerFrames()
      giveInput()
      takeOutput()
      channel.flush()
      if let status, isDrained, channel.isFlushed { return status }
      wait()
    }
  }

  /// Says something on the command's standard error output, behind what the command said, if the host takes it.
  mutating func say(_ text: StaticString) {
    let count = text.utf8CodeUnitCount
    guard errorCredit >= count, channel.roomForData >= count else { return }
    channel.sendData(Channel.Stream.error, text.utf8Start, count)
  }

  /// Sends how the command ended, behind everything else.
  mutating func report(_ status: (how: UInt8, number: UInt8)) -> Never {
    channel.sendStatus(status.how, status.number)
    while true {
      channel.flush()
      if channel.isFlushed { halt() }
      wait()
    }
  }

  private mutating func wait() {
    // Negative descriptors are skipped.
    let wantsOutput = status == nil || !isDrained
    var descriptors = (
      PollDescriptor(
        descriptor: Int32(channel.descriptor),
        events: Linux.Poll.input | (channel.isFlushed ? 0 : Linux.Poll.output), found: 0),
      PollDescriptor(descriptor: status == nil ? Int32(signals) : -1, events: Linux.Poll.input, found: 0),
      PollDescriptor(descriptor: inputCount > 0 ? Int32(command.input) : -1, events: Linux.Poll.output, found: 0),
      PollDescriptor(
        descriptor: wantsOutput && canSend(outputCredit) ? Int32(command.output) : -1, events: Linux.Poll.input,
        found: 0),
      PollDescriptor(
        descriptor: wantsOutput && canSend(errorCredit) ? Int32(command.error) : -1, events: Linux.Poll.input, found: 0)
    )
    // What is owed comes with credit, however late; for the rest there is a time.
    let rest = drainEnd - Linux.milliseconds
    let limit = status == nil ? -1 : rest > 0 ? rest : outputOwed > 0 || errorOwed > 0 ? -1 : 1
    withUnsafeMutablePointer(to: &descriptors) {
      _ = Linux.call(.poll, Linux.address($0), 5, limit)
    }
    if descriptors.0.found & Linux.Poll.input != 0 { channel.receive() }
    if descriptors.1.found != 0 { reap() }
  }

  private func canSend(_ credit: Int) -> Bool { credit > 0 && channel.roomForData > 0 }

  // MARK: From the host

  private mutating func answerFrames() {
    while channel.hasReserve, let frame = channel.nextFrame() {
      switch (frame.kind, frame.stream) {
      case (Channel.Kind.data, Channel.Stream.input): keepInput(frame)
      case (Channel.Kind.end, Channel.Stream.input): inputHasEnded = true
      case (Channel.Kind.credit, Channel.Stream.output): outputCredit += frame.number(at: 0)
      case (Channel.Kind.credit, Channel.Stream.error): errorCredit += frame.number(at: 0)
      case (Channel.Kind.size, _):
        let pairs = frame.number(at: 0)
        command.resize(
          columns: UInt16(truncatingIfNeeded: pairs), rows: UInt16(truncatingIfNeeded: pairs >> 16))
      default: break
      }
    }
  }

  private mutating func keepInput(_ frame: Channel.Frame) {
    if isUnwanted { return }
    guard inputCount + frame.count <= Int(INPUT_CAPACITY) else {
      complain("the host sent more input than there was room for")
      giveUp()
    }
    let buffer = inputBuffer()
    for index in 0..<frame.count {
      buffer[(inputStart + inputCount + index) % Int(INPUT_CAPACITY)] = frame.contents[index]
    }
    inputCount += frame.count
  }

  private mutating func giveInput() {
    while inputCount > 0, command.input >= 0 {
      let count = min(inputCount, Int(INPUT_CAPACITY) - inputStart)
      let written = Linux.call(.write, command.input, Linux.address(inputBuffer() + inputStart), count)
      if written == Linux.Failure.interrupted { continue }
      if written == Linux.Failure.tryAgain { break }
      guard written > 0 else {
        refuseInput()
        break
      }
      inputStart = (inputStart + written) % Int(INPUT_CAPACITY)
      inputCount -= written
      inputTaken += written
    }
    if inputTaken >= Self.creditStep || inputTaken > 0 && inputCount == 0, channel.hasReserve {
      channel.sendCredit(Channel.Stream.input, inputTaken)
      inputTaken = 0
    }
    if inputHasEnded, inputCount == 0 { command.closeInput() }
  }

  /// Nobody reads it any more.
  private mutating func refuseInput() {
    isUnwanted = true
    inputCount = 0
    if !command.hasTerminal { Linux.call(.close, command.input) }
    command.input = -1
    if channel.hasReserve { channel.sendEnd(Channel.Stream.input) }
  }

  // MARK: To the host

  private mutating func takeOutput() {
    while command.output >= 0, canSend(outputCredit) {
      let count = channel.send(Channel.Stream.output, from: command.output, limit: outputCredit)
      if count > 0 {
        outputCredit -= count
        outputOwed -= count
      } else if isOver(count) {
        Linux.call(.close, command.output)
        if command.hasTerminal { command.input = -1 }
        command.output = -1
      } else {
        break
      }
      channel.flush()
    }
    while command.error >= 0, canSend(errorCredit) {
      let count = channel.send(Channel.Stream.error, from: command.error, limit: errorCredit)
      if count > 0 {
        errorCredit -= count
        errorOwed -= count
      } else if isOver(count) {
        Linux.call(.close, command.error)
        command.error = -1
      } else {
        break
      }
      channel.flush()
    }
  }

  /// Whether a read's result means that nothing more comes. A terminal that nobody holds open gives an error.
  private func isOver(_ count: Int) -> Bool { count != Linux.Failure.tryAgain && count != Linux.Failure.interrupted }

  // MARK: The end

  /// Processes whose parents are gone are this one's, too.
  private mutating func reap() {
    let information = scratchBuffer()
    while Linux.call(.read, signals, Linux.address(information), 128) > 0 {}
    var found: Int32 = 0
    while true {
      let ended = withUnsafeMutablePointer(to: &found) { Linux.call(.wait4, -1, Linux.address($0), 1) }  // WNOHANG
      guard ended > 0 else { return }
      guard ended == command.process else { continue }
      let signal = found & 0x7f
      status = signal == 0 ? (0, UInt8(truncatingIfNeeded: found >> 8)) : (1, UInt8(truncatingIfNeeded: signal))
      drainEnd = Linux.milliseconds + Self.drainMilliseconds
      outputOwed = Self.countReadable(command.output)
      errorOwed = Self.countReadable(command.error)
    }
  }

  private static func countReadable(_ descriptor: Int) -> Int {
    guard descriptor >= 0 else { return 0 }
    var count: Int32 = 0
    withUnsafeMutablePointer(to: &count) {
      _ = Linux.call(.ioctl, descriptor, Linux.Control.countReadable, Linux.address($0))
    }
    return Int(count)
  }

  /// Whether all that the command wrote has been taken. What it wrote itself was in the pipes when it ended; for what comes
  /// of processes that it left behind there is a little time.
  private var isDrained: Bool {
    if command.output < 0, command.error < 0 { return true }
    return outputOwed <= 0 && errorOwed <= 0 && Linux.milliseconds >= drainEnd
  }
}
