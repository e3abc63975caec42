// The host's side of a running machine: one thread that waits for whatever comes first.
//
//     end of the machine ─┐
//     stop from elsewhere ─┤
//     a signal            ─┼─▶ poll ─▶ …
//     input, room for it  ─┤
//     the time limit      ─┘
//
// Ending has two steps, because output must neither be lost nor hold the end up for ever: the processors are stopped, then
// what the guest wrote is delivered. While the guest ended by itself, a slow reader may take its time (the time limit and
// signals still hold); when the end came from outside, it has a quarter of a second.
//
// With KVM's chips in the kernel, a guest that executes HLT with interrupts off never comes back, and nothing can wake
// it. So while the process does nothing, the loop looks now and then whether the machine is halted for good.

import CLinux
import Devices
import Glibc
import VMM

/// Waits for the end of one machine instance.
final class HostLoop {
  /// How long output may hold up an end that came from outside.
  private static let deliveryNanoseconds: UInt64 = 250_000_000
  /// How often an idle machine is looked at, at first and at most.
  private static let idleCheckRange: ClosedRange<UInt64> = 50_000_000...1_000_000_000

  private enum Phase {
    /// The guest executes.
    case running
    /// The processors were asked to stop.
    case stopping
    /// They are gone; output is being delivered.
    case delivering
  }

  private let instance: MachineInstance
  private let options: RunOptions
  private let sinks: [any SerialSink]
  private let input: SerialInput?
  private let console: (any ConsoleInput)?
  private let roomEvent: EventDescriptor
  private let deliveredEvent: EventDescriptor
  private let deadline: UInt64?

  private var phase = Phase.running
  private var cause: StopCause?
  private var deliveryDeadline: UInt64?
  private var inputIsOpen = true
  private var pendingInput: [UInt8] = []
  private var escape = EscapeFilter()
  private var idleInterval = HostLoop.idleCheckRange.lowerBound
  private var nextIdleCheck: UInt64
  private var processorTime: UInt64 = 0

  init(
    _ instance: MachineInstance, configuration: VirtualMachineConfiguration, options: RunOptions, deadline: UInt64?
  ) throws(MachineFailure) {
    self.instance = instance
    self.options = options
    self.deadline = deadline
    let virtioConsole = configuration.virtioConsole
    sinks = configuration.serialPorts.map(\.output) + (virtioConsole.map { [$0.output] } ?? [])
    input = virtioConsole == nil ? configuration.serialPorts.first?.input : virtioConsole?.input
    console = instance.console
    roomEvent = try EventDescriptor()
    deliveredEvent = try EventDescriptor()
    nextIdleCheck = monotonicNanoseconds() + Self.idleCheckRange.lowerBound
    let roomEvent = roomEvent
    console?.whenRoomForInput { roomEvent.signal() }
  }

  /// Serves the machine until every processor is gone and what the guest wrote is delivered.
  /// - Returns: what ended it from outside, if anything did.
  func waitForEnd() -> StopCause? {
    let signals = SignalDescriptor(options.endingSignals + (options.whenContinued == nil ? [] : [SIGCONT]))
    while true {
      var descriptors = [
        pollfd(fd: instance.endedEvent.raw, events: Int16(POLLIN), revents: 0),
        pollfd(fd: instance.stopEvent.raw, events: Int16(POLLIN), revents: 0),
        pollfd(fd: roomEvent.raw, events: Int16(POLLIN), revents: 0),
        pollfd(fd: deliveredEvent.raw, events: Int16(POLLIN), revents: 0),
        pollfd(fd: signals.raw, events: Int16(POLLIN), revents: 0),
        pollfd(fd: watchedInput, events: Int16(POLLIN), revents: 0),
      ]
      // Negative descriptors are skipped by poll.
      poll(&descriptors, UInt(descriptors.count), waitingMilliseconds())
      if descriptors[4].revents != 0, let signal = signals.take() {
        if signal == SIGCONT { options.whenContinued?() } else { interrupt(.signal(signal)) }
      }
      if descriptors[1].revents != 0 {
        instance.stopEvent.drain()
        interrupt(instance.stopCause ?? .request)
      }
      if descriptors[0].revents != 0 {
        instance.endedEvent.drain()
        beginDelivery()
      }
      if descriptors[3].revents != 0 { return cause }
      if descriptors[2].revents != 0 {
        roomEvent.drain()
        handOverInput()
      }
      if descriptors[5].revents != 0 { readInput() }
      let now = monotonicNanoseconds()
      if let deadline, now >= deadline { interrupt(.timeout) }
      if let deliveryDeadline, now >= deliveryDeadline {
        for sink in sinks { sink.abandon() }
        self.deliveryDeadline = nil
      }
      if phase == .stopping { instance.threads.kick() }
      if phase == .running, now >= nextIdleCheck { checkWhetherHalted(now) }
    }
  }

  /// Ends the machine from outside; the first cause counts.
  private func interrupt(_ cause: StopCause) {
    guard self.cause == nil else {
      // A second signal: do not wait for a slow reader any longer.
      if case .signal = cause { deliveryDeadline = monotonicNanoseconds() }
      return
    }
    // What comes when the guest has ended by itself only cuts the delivery short.
    if phase == .running {
      self.cause = cause
      phase = .stopping
      instance.threads.stop(.cancelled)
    }
    deliveryDeadline = deliveryDeadline ?? monotonicNanoseconds() + Self.deliveryNanoseconds
  }

  private func beginDelivery() {
    guard phase != .delivering else { return }
    phase = .delivering
    inputIsOpen = false
    let (sinks, deliveredEvent) = (sinks, deliveredEvent)
    let deliver: @Sendable () -> Void = {
      for sink in sinks { sink.finish() }
      deliveredEvent.signal()
    }
    if !DetachedThread.start(deliver) { deliver() }
  }

  private func waitingMilliseconds() -> Int32 {
    if phase == .stopping { return 5 }
    let now = monotonicNanoseconds()
    var next = phase == .running ? nextIdleCheck : UInt64.max
    if phase == .running, let deadline { next = min(next, deadline) }
    if let deliveryDeadline { next = min(next, deliveryDeadline) }
    guard next != .max else { return -1 }
    return next <= now ? 0 : Int32(min((next - now) / 1_000_000 + 1, 60_000))
  }

  private var watchedInput: Int32 {
    guard inputIsOpen, pendingInput.isEmpty, let input else { return -1 }
    return input.fileDescriptor
  }

  private func readInput() {
    guard let input else { return }
    var buffer = [UInt8](repeating: 0, count: 4096)
    let count = read(input.fileDescriptor, &buffer, buffer.count)
    guard count > 0 else {
      // The end of the input, or an error that will not go away: the guest just gets no more.
      if count == 0 || (errno != EINTR && errno != EAGAIN) { inputIsOpen = false }
      return
    }
    guard input.isTerminal else {
      pendingInput += buffer[..<count]
      return handOverInput()
    }
    for byte in buffer[..<count] {
      switch escape.filter(byte, guestIsListening: console?.isListening ?? false) {
      case .pass(let byte): pendingInput.append(byte)
      case .swallow: break
      case .quit: return interrupt(.user)
      case .interrupt: return interrupt(.signal(SIGINT))
      case .help: options.whenHelpWanted?()
      }
    }
    handOverInput()
  }

  private func handOverInput() {
    guard let console, !pendingInput.isEmpty else { return }
    pendingInput.removeFirst(console.receive(pendingInput))
  }

  /// Looks at the processors if the process has been idle since the last look.
  private func checkWhetherHalted(_ now: UInt64) {
    var usage = timespec()
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &usage)
    let spent = UInt64(usage.tv_sec) * 1_000_000_000 + UInt64(usage.tv_nsec)
    let isIdle = spent - processorTime < idleInterval / 20
    processorTime = spent
    if isIdle {
      if instance.threads.pause(milliseconds: 20), instance.threads.isHaltedForGood {
        instance.threads.stop(.stopped(.halted))
      } else {
        instance.resumeUnlessPaused()
      }
      idleInterval = min(idleInterval * 2, Self.idleCheckRange.upperBound)
    } else {
      idleInterval = Self.idleCheckRange.lowerBound
    }
    nextIdleCheck = now + idleInterval
  }
}
