import Glibc
import TrivisorCLinux
import TrivisorCommandChannel
import TrivisorDevices
import TrivisorVMM

/// The client's thread: waits for whatever comes first of input, the socket, signals and the end.
struct GuestClientLoop {
  private let socket: StreamSocket
  private let line: ClientLine
  private let channel: CommandChannel
  private let ends: GuestClient.Ends
  /// Rung when the command is over, or takes input again.
  private let event: Int32
  private let signals: Int32
  private var inputIsOpen: Bool
  private var input: [UInt8] = []
  private var escape = EscapeFilter()
  private var forwarded: Set<Int32> = []

  init(_ socket: StreamSocket, _ line: ClientLine, _ channel: CommandChannel, _ ends: GuestClient.Ends) {
    self.socket = socket
    self.line = line
    self.channel = channel
    self.ends = ends
    inputIsOpen = ends.input != nil
    event = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
    var set = sigset_t()
    sigemptyset(&set)
    for signal in GuestClient.awaitedSignals { sigaddset(&set, signal) }
    signals = signalfd(-1, &set, Int32(SFD_CLOEXEC | SFD_NONBLOCK))
  }

  mutating func run() -> GuestClient.Outcome {
    defer {
      close(event)
      close(signals)
    }
    guard event >= 0, signals >= 0 else { return .lost("the host gives no more descriptors") }
    let event = event
    channel.whenRoomForInput { eventfd_write(event, 1) }
    if ends.input == nil { channel.endInput() }
    while true {
      switch channel.progress {
      case .ended(let status): return .ended(status)
      case .refused(let reason): return .refused(reason)
      case .failed(let reason): return .lost("something else than the protocol came over the guest's socket: \(reason)")
      case .waiting, .running: break
      }
      if let outcome = turn() { return outcome }
    }
  }

  private mutating func turn() -> GuestClient.Outcome? {
    let wantsInput = inputIsOpen && input.isEmpty && (ends.isTerminal || !channel.isUnwanted)
    var descriptors = [
      pollfd(fd: socket.raw, events: Int16(POLLIN | (line.isFull ? POLLOUT : 0)), revents: 0),
      pollfd(fd: event, events: Int16(POLLIN), revents: 0),
      pollfd(fd: signals, events: Int16(POLLIN), revents: 0),
      pollfd(fd: wantsInput ? ends.input ?? -1 : -1, events: Int16(POLLIN), revents: 0),
    ]
    poll(&descriptors, UInt(descriptors.count), -1)
    if descriptors[0].revents & Int16(POLLOUT) != 0 { line.goOn() }
    if descriptors[0].revents & Int16(POLLIN | POLLHUP | POLLERR) != 0 {
      guard let bytes = socket.receive() else {
        return .lost("the guest ended before the command had")
      }
      bytes.withUnsafeBytes { channel.write($0) }
    }
    if descriptors[1].revents != 0 {
      var count: eventfd_t = 0
      eventfd_read(event, &count)
      handOver()
    }
    if descriptors[2].revents != 0, let outcome = takeSignal() { return outcome }
    if descriptors[3].revents != 0 { return readInput() }
    return nil
  }

  private mutating func takeSignal() -> GuestClient.Outcome? {
    var information = signalfd_siginfo()
    let size = MemoryLayout<signalfd_siginfo>.size
    guard read(signals, &information, size) == size else { return nil }
    let signal = Int32(information.ssi_signo)
    switch signal {
    case SIGCONT: ends.whenContinued()
    case SIGWINCH: if ends.isTerminal { channel.resize(ends.size()) }
    default:
      // Of a command that has not begun there is nobody to tell.
      guard channel.isListening, forwarded.insert(signal).inserted else { return .interrupted(signal) }
      channel.signal(UInt8(truncatingIfNeeded: signal))
    }
    return nil
  }

  private mutating func readInput() -> GuestClient.Outcome? {
    guard let source = ends.input else { return nil }
    var buffer = [UInt8](repeating: 0, count: 4096)
    let count = read(source, &buffer, buffer.count)
    guard count > 0 else {
      if count == 0 || (errno != EINTR && errno != EAGAIN) {
        inputIsOpen = false
        channel.endInput()
      }
      return nil
    }
    guard ends.isTerminal else {
      input += buffer[..<count]
      handOver()
      return nil
    }
    for byte in buffer[..<count] {
      switch escape.filter(byte, guestIsListening: channel.isListening) {
      case .pass(let byte): input.append(byte)
      case .swallow: break
      case .quit: return .left
      case .interrupt: return .interrupted(SIGINT)
      case .help: ends.whenHelpWanted()
      }
    }
    handOver()
    return nil
  }

  private mutating func handOver() {
    guard !input.isEmpty else { return }
    input.removeFirst(channel.receive(input))
  }
}
