// All commands that run at a time. Nothing blocks but the wait for whatever comes next.

import CLinuxGuest

struct Sessions {
  private var channel: Channel
  private let signals: Int
  /// By their numbers; the first is the one for which the machine is there.
  private var table = [32 of Session?](repeating: nil)
  /// The order of a further command, as far as it has come.
  private var assembly = OrderAssembly()
  /// Who may send first: none has all of the channel.
  private var turn = 0

  init(_ channel: Channel, _ first: Session, signals: Int) {
    self.channel = channel
    self.signals = signals
    table[0] = first
  }

  /// Until the first command has ended and all of its output is sent, but not its status.
  /// - Returns: how it ended.
  mutating func run() -> Channel.Status {
    while true {
      answerFrames()
      for offset in 0..<table.count { serve((turn + offset) % table.count) }
      turn = (turn + 1) % table.count
      channel.flush()
      if let status = table[0]?.result, channel.isFlushed { return status }
      wait()
    }
  }

  private mutating func serve(_ number: Int) {
    guard table[number] != nil else { return }
    table[number]?.giveInput(&channel)
    table[number]?.takeOutput(&channel)
    guard number > 0, let status = table[number]?.result, channel.hasReserve else { return }
    channel.sendStatus(status, of: number)
    table[number]?.close()
    table[number] = nil
  }

  /// Says something on the first command's standard error output.
  mutating func say(_ text: StaticString) { table[0]?.say(text, &channel) }

  /// Sends how the first command ended, behind everything else.
  mutating func report(_ status: Channel.Status) -> Never {
    // Whatever the others said last goes out first.
    while !channel.isFlushed {
      wait()
      channel.flush()
    }
    channel.sendStatus(status, of: 0)
    while true {
      channel.flush()
      if channel.isFlushed { halt() }
      wait()
    }
  }

  private mutating func wait() {
    let descriptors = pollBuffer()
    descriptors[0] = PollDescriptor(
      descriptor: Int32(channel.descriptor),
      events: Linux.Poll.input | (channel.isFlushed ? 0 : Linux.Poll.output), found: 0)
    descriptors[1] = PollDescriptor(descriptor: Int32(signals), events: Linux.Poll.input, found: 0)
    var count = 2
    var limit = -1
    for number in 0..<table.count {
      guard let session = table[number] else { continue }
      session.watch(channel, descriptors + count)
      count += 3
      let wish = session.waitingLimit
      if wish >= 0 { limit = limit < 0 ? wish : min(limit, wish) }
    }
    Linux.call(.poll, Linux.address(descriptors), count, limit)
    if descriptors[0].found & Linux.Poll.input != 0 { channel.receive() }
    if descriptors[1].found != 0 { reap() }
  }

  /// Processes whose parents are gone are this one's, too.
  private mutating func reap() {
    let information = scratchBuffer()
    while Linux.call(.read, signals, Linux.address(information), 128) > 0 {}
    var found: Int32 = 0
    while true {
      let ended = withUnsafeMutablePointer(to: &found) { Linux.call(.wait4, -1, Linux.address($0), 1) }  // WNOHANG
      guard ended > 0 else { return }
      for number in 0..<table.count where table[number]?.process == ended { table[number]?.end(found) }
    }
  }

  // MARK: From the host

  private mutating func answerFrames() {
    while channel.hasReserve, let frame = channel.nextFrame() {
      guard frame.session < table.count else { continue }
      if table[frame.session] != nil {
        table[frame.session]?.take(frame)
      } else if assembly.take(frame, &channel) == .complete {
        begin(frame.session)
      }
    }
  }

  /// A further command.
  private mutating func begin(_ number: Int) {
    let credit = assembly.credit
    guard let order = assembly.order() else { return refuse(number, "the order makes no sense") }
    guard let command = Command(order, CommandPlace(order.steps)) else {
      return refuse(number, "the guest has no process, no pipe or no terminal for it")
    }
    table[number] = Session(number, command, credit)
  }

  private mutating func refuse(_ number: Int, _ sentence: StaticString) {
    channel.sendRefusal(of: number, sentence.utf8Start, sentence.utf8CodeUnitCount)
  }
}
