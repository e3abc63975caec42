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
//
// A Linux kernel that panicked and is not told to reset spins for ever, with interrupts on. It is known by the last line
// that it writes; a program may quote that line, so the processors are looked at, too, some times in a row.

import TrivisorCLinux
import TrivisorDevices
import Glibc
import TrivisorVMM

/// Waits for the end of one machine instance.
final class HostLoop {
  /// How long output may hold up an end that came from outside.
  private static let deliveryNanoseconds: UInt64 = 250_000_000
  /// How often an idle machine is looked at, at first and at most.
  private static let idleCheckRange: ClosedRange<UInt64> = 50_000_000...1_000_000_000

  /// For how long nothing may follow a kernel's last words, and how often its processors are looked at then.
  private static let silenceNanoseconds: UInt64 = 500_000_000
  private static let lookNanoseconds: UInt64 = 100_000_000
  private static let looks = 5

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
  private var isOutputLost = false
  private var deliveryDeadline: UInt64?
  /// What came when the guest had ended by itself, and cuts the delivery of its output short.
  private var impatience: StopCause?
  private var inputIsOpen = true
  private var pendingInput: [UInt8] = []
  private var escape = EscapeFilter()
  private var idleInterval = HostLoop.idleCheckRange.lowerBound
  private var nextIdleCheck: UInt64
  private var processorTime: UInt64 = 0
  /// The last words that are being looked into, and how often every processor was found as they announce.
  private var obituary: (time: UInt64, confirmations: Int)?
  private var nextLook: UInt64 = 0

  init(
    _ instance: MachineInstance, configuration: PlatformConfiguration, options: RunOptions, deadline: UInt64?
  ) throws(MachineFailure) {
    self.instance = instance
    self.options = options
    self.deadline = deadline
    let virtioConsole = configuration.virtioConsole
    let command = configuration.command
    sinks = configuration.sinks
    if let command {
      input = command.input
    } else {
      input = virtioConsole == nil ? configuration.serialPorts.first?.input : virtioConsole?.input
    }
    console = instance.console
    roomEvent = try EventDescriptor()
    deliveredEvent = try EventDescriptor()
    nextIdleCheck = monotonicNanoseconds() + Self.idleCheckRange.lowerBound
    let roomEvent = roomEvent
    console?.whenRoomForInput { roomEvent.signal() }
    if input == nil { endInput() }
  }

  /// Serves the machine until every processor is gone and what the guest wrote is delivered, or can't be.
  /// - Returns: what ended it from outside, if anything did, before the guest had ended or while its output was being
  ///   delivered: then some of that is lost, and how the guest ended does not count.
  func waitForEnd() -> (cause: StopCause?, isOutputLost: Bool) {
    let signals = SignalDescriptor(
      options.endingSignals + (options.whenContinued == nil ? [] : [SIGCONT])
        + (options.whenResized == nil ? [] : [SIGWINCH]))
    while true {
      var descriptors = [
        pollfd(fd: instance.endedEvent.raw, events: Int16(POLLIN), revents: 0),
        pollfd(fd: instance.stopEvent.raw, events: Int16(POLLIN), revents: 0),
        pollfd(fd: roomEvent.raw, events: Int16(POLLIN), revents: 0),
        pollfd(fd: deliveredEvent.raw, events: Int16(POLLIN), revents: 0),
        pollfd(fd: signals.raw, events: Int16(POLLIN), revents: 0),
        pollfd(fd: watchedInput, events: Int16(POLLIN), revents: 0),
        pollfd(fd: instance.commandEvent.raw, events: Int16(POLLIN), revents: 0),
      ]
      // Negative descriptors are skipped by poll.
      poll(&descriptors, UInt(descriptors.count), waitingMilliseconds())
      if descriptors[4].revents != 0, let signal = signals.take() {
        switch signal {
        case SIGCONT: options.whenContinued?()
        case SIGWINCH: options.whenResized?()
        default: interrupt(.signal(signal))
        }
      }
      if descriptors[1].revents != 0 {
        instance.stopEvent.drain()
        interrupt(instance.stopCause ?? .request)
      }
      if descriptors[6].revents != 0 {
        instance.commandEvent.drain()
        endAfterCommand()
      }
      if descriptors[0].revents != 0 {
        instance.endedEvent.drain()
        beginDelivery()
      }
      if descriptors[3].revents != 0 { return (cause, isOutputLost) }
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
        if let impatience, cause == nil {
          cause = impatience
          isOutputLost = true
        }
      }
      if phase == .stopping { instance.threads.kick() }
      if phase == .running, now >= nextIdleCheck { checkWhetherHalted(now) }
      if phase == .running, now >= nextLook { checkWhetherPanicked(now) }
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
    } else {
      impatience = impatience ?? cause
    }
    deliveryDeadline = deliveryDeadline ?? monotonicNanoseconds() + Self.deliveryNanoseconds
  }

  /// The guest has done what it is there for. That is its own end: whoever reads its output may take the time.
  private func endAfterCommand() {
    guard phase == .running else { return }
    phase = .stopping
    instance.threads.stop(.cancelled)
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
    if phase == .running, obituary != nil { next = min(next, nextLook) }
    if cause == nil, impatience == nil, let deadline { next = min(next, deadline) }
    if let deliveryDeadline { next = min(next, deliveryDeadline) }
    guard next != .max else { return -1 }
    return next <= now ? 0 : Int32(min((next - now) / 1_000_000 + 1, 60_000))
  }

  private var watchedInput: Int32 {
    guard inputIsOpen, pendingInput.isEmpty, let input else { return -1 }
    // Somebody at the terminal can still end the run.
    if console?.isUnwanted ?? false, !input.isTerminal { return -1 }
    return input.fileDescriptor
  }

  private func endInput() {
    inputIsOpen = false
    console?.endInput()
  }

  private func readInput() {
    guard let input else { return }
    var buffer = [UInt8](repeating: 0, count: 4096)
    let count = read(input.fileDescriptor, &buffer, buffer.count)
    guard count > 0 else {
      // The end of the input, or an error that will not go away: the guest just gets no more.
      if count == 0 || (errno != EINTR && errno != EAGAIN) { endInput() }
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

  /// Ends a machine whose kernel has said that it does nothing any more, and does nothing else.
  private func checkWhetherPanicked(_ now: UInt64) {
    guard let time = instance.lastWords else {
      obituary = nil
      nextLook = 0
      return
    }
    if obituary?.time != time { obituary = (time, 0) }
    guard now >= time + Self.silenceNanoseconds else {
      nextLook = time + Self.silenceNanoseconds
      return
    }
    nextLook = now + Self.lookNanoseconds
    // Once found otherwise, it lives, and goes on to live.
    guard let confirmations = obituary?.confirmations, confirmations >= 0 else { return }
    guard !instance.isPaused, !instance.threads.isHeld else { return }
    guard instance.threads.pause(milliseconds: 20, looksForKernel: true) else { return instance.resumeUnlessPaused() }
    let isConfirmed = instance.threads.areAllInKernelOrGone
    if isConfirmed, confirmations + 1 == Self.looks {
      return end(.crashed(CrashReport(summary: PVPanic.panicSummary)))
    }
    instance.resumeUnlessPaused()
    obituary = (time, isConfirmed ? confirmations + 1 : -1)
  }

  /// Looks at the processors if the process has been idle since the last look.
  private func checkWhetherHalted(_ now: UInt64) {
    var usage = timespec()
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &usage)
    let spent = UInt64(usage.tv_sec) * 1_000_000_000 + UInt64(usage.tv_nsec)
    let isIdle = spent - processorTime < idleInterval / 20
    processorTime = spent
    if isIdle, !instance.threads.isHeld {
      if instance.threads.pause(milliseconds: 20), instance.threads.isHaltedForGood {
        end(.halted)
      } else {
        instance.resumeUnlessPaused()
      }
      idleInterval = min(idleInterval * 2, Self.idleCheckRange.upperBound)
    } else {
      idleInterval = Self.idleCheckRange.lowerBound
    }
    nextIdleCheck = now + idleInterval
  }

  /// The guest, whose processors stand, is found to do nothing any more; a debugger may look at it first.
  private func end(_ reason: StopReason) {
    if instance.threads.holdEnding(0, reason) {
      instance.resumeUnlessPaused()
    } else {
      instance.threads.stop(.stopped(reason))
    }
  }
}
