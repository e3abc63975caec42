// One command's run: bytes from the channel into the command, and from the command into the channel. Nothing here blocks.

import CLinuxGuest

struct Session {
  /// So long a process that the command has left behind may hold its pipes.
  private static let drainMilliseconds = 250
  /// New credit is given for so much at least.
  private static let creditStep = Int(INPUT_CAPACITY) / 4

  /// By which the host knows it.
  let number: Int
  private var command: Command

  /// What came of the input and the command has not taken, in the input buffer from `inputStart` on, round its end.
  private var inputStart = 0
  private var inputCount = 0
  private var inputTaken = 0
  private var inputHasEnded = false
  private var isUnwanted = false
  /// The host is to hear that nobody reads the input.
  private var owesEnd = false
  /// What the host takes.
  private var outputCredit: Int
  private var errorCredit: Int

  private var status: Channel.Status?
  private var drainEnd = 0
  /// What was in the pipes when the command ended.
  private var outputOwed = 0
  private var errorOwed = 0

  init(_ number: Int, _ command: Command, _ credit: OrderAssembly.Credit) {
    self.number = number
    self.command = command
    outputCredit = credit.output
    errorCredit = credit.error
    command.makeNonBlocking()
  }

  var process: Int { command.process }

  /// How it ended, once all of its output is in the channel.
  var result: Channel.Status? { isDrained ? status : nil }

  /// Says something on the command's standard error output, behind what the command said, if the host takes it.
  mutating func say(_ text: StaticString, _ channel: inout Channel) {
    let count = text.utf8CodeUnitCount
    guard errorCredit >= count, channel.roomForData >= count else { return }
    channel.sendData(Channel.Stream.error, of: number, text.utf8Start, count)
  }

  /// Lets go of its descriptors.
  mutating func close() { command.close() }

  // MARK: Waiting

  /// What there is to wait for: three descriptors, of which the negative ones are skipped.
  func watch(_ channel: Channel, _ descriptors: UnsafeMutablePointer<PollDescriptor>) {
    let wantsOutput = status == nil || !isDrained
    func canSend(_ credit: Int) -> Bool { wantsOutput && credit > 0 && channel.roomForData > 0 }
    descriptors[0] = PollDescriptor(
      descriptor: inputCount > 0 ? Int32(command.input) : -1, events: Linux.Poll.output, found: 0)
    descriptors[1] = PollDescriptor(
      descriptor: canSend(outputCredit) ? Int32(command.output) : -1, events: Linux.Poll.input, found: 0)
    descriptors[2] = PollDescriptor(
      descriptor: canSend(errorCredit) ? Int32(command.error) : -1, events: Linux.Poll.input, found: 0)
  }

  /// For how many milliseconds at most; negative: for ever.
  var waitingLimit: Int {
    // What is owed comes with credit, however late; for the rest there is a time.
    guard status != nil else { return -1 }
    let rest = drainEnd - Linux.milliseconds
    return rest > 0 ? rest : outputOwed > 0 || errorOwed > 0 ? -1 : 1
  }

  // MARK: From the host

  /// Takes a frame that is for this command.
  mutating func take(_ frame: Channel.Frame) {
    switch (frame.kind, frame.stream) {
    case (Channel.Kind.data, Channel.Stream.input): keepInput(frame)
    case (Channel.Kind.end, Channel.Stream.input): inputHasEnded = true
    case (Channel.Kind.end, Channel.Stream.output): hangUp()
    case (Channel.Kind.credit, Channel.Stream.output): outputCredit += frame.number(at: 0)
    case (Channel.Kind.credit, Channel.Stream.error): errorCredit += frame.number(at: 0)
    case (Channel.Kind.size, _):
      let pairs = frame.number(at: 0)
      command.resize(columns: UInt16(truncatingIfNeeded: pairs), rows: UInt16(truncatingIfNeeded: pairs >> 16))
    case (Channel.Kind.signal, _) where frame.count == 1 && status == nil: command.signal(frame.contents[0])
    default: break
    }
  }

  private mutating func keepInput(_ frame: Channel.Frame) {
    if isUnwanted { return }
    guard inputCount + frame.count <= Int(INPUT_CAPACITY) else {
      complain("the host sent more input than there was room for")
      giveUp()
    }
    let buffer = inputBuffer(number)
    for index in 0..<frame.count {
      buffer[(inputStart + inputCount + index) % Int(INPUT_CAPACITY)] = frame.contents[index]
    }
    inputCount += frame.count
  }

  private mutating func hangUp() {
    isUnwanted = true
    inputCount = 0
    outputOwed = 0
    errorOwed = 0
    if status == nil { command.hangUp() }
  }

  /// Gives the command what it takes of its input.
  mutating func giveInput(_ channel: inout Channel) {
    while inputCount > 0, command.input >= 0 {
      let count = min(inputCount, Int(INPUT_CAPACITY) - inputStart)
      let written = Linux.call(.write, command.input, Linux.address(inputBuffer(number) + inputStart), count)
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
      channel.sendCredit(Channel.Stream.input, of: number, inputTaken)
      inputTaken = 0
    }
    if owesEnd, channel.hasReserve {
      channel.sendEnd(Channel.Stream.input, of: number)
      owesEnd = false
    }
    if inputHasEnded, inputCount == 0 { command.closeInput() }
  }

  /// Nobody reads it any more.
  private mutating func refuseInput() {
    isUnwanted = true
    owesEnd = true
    inputCount = 0
    if !command.hasTerminal { Linux.call(.close, command.input) }
    command.input = -1
  }

  // MARK: To the host

  /// Sends what the command says, as far as the host and the channel take it.
  mutating func takeOutput(_ channel: inout Channel) {
    while command.output >= 0, outputCredit > 0, channel.roomForData > 0 {
      let count = channel.send(Channel.Stream.output, of: number, from: command.output, limit: outputCredit)
      if count > 0 {
        outputCredit -= count
        outputOwed -= count
      } else if Self.isOver(count) {
        command.closeOutput()
      } else {
        break
      }
      channel.flush()
    }
    while command.error >= 0, errorCredit > 0, channel.roomForData > 0 {
      let count = channel.send(Channel.Stream.error, of: number, from: command.error, limit: errorCredit)
      if count > 0 {
        errorCredit -= count
        errorOwed -= count
      } else if Self.isOver(count) {
        Linux.call(.close, command.error)
        command.error = -1
      } else {
        break
      }
      channel.flush()
    }
  }

  /// Whether a read's result means that nothing more comes. A terminal that nobody holds open gives an error.
  private static func isOver(_ count: Int) -> Bool {
    count != Linux.Failure.tryAgain && count != Linux.Failure.interrupted
  }

  // MARK: The end

  /// The command's process has ended.
  /// - Parameter found: what wait4(2) said.
  mutating func end(_ found: Int32) {
    let signal = found & 0x7f
    status =
      signal == 0
      ? Channel.Status(how: 0, number: UInt8(truncatingIfNeeded: found >> 8))
      : Channel.Status(how: 1, number: UInt8(truncatingIfNeeded: signal))
    drainEnd = Linux.milliseconds + Self.drainMilliseconds
    outputOwed = Self.countReadable(command.output)
    errorOwed = Self.countReadable(command.error)
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
