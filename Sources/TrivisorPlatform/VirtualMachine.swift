// A machine as its owner sees it: configured once, run once, stopped from anywhere.
//
//     VirtualMachine ──makes──▶ MachineInstance (one life; a reset makes the next) ──▶ ProcessorThreads
//          │
//          └─ HostLoop: one thread that waits for the end, input, signals and the time limit
//
// Nothing here knows which technique runs the guest.

import TrivisorBoot
import TrivisorCommandChannel
import TrivisorDebugger
import TrivisorDevices
import Glibc
import Synchronization
import TrivisorVMM

/// A virtual machine under one technique.
public final class VirtualMachine: Sendable {
  /// Where a machine is in its life.
  public enum State: Sendable, Equatable {
    /// Made, not started.
    case created
    /// Executing.
    case running
    /// Every processor stands between two instructions.
    case paused
    /// Over.
    case ended(Outcome)
  }

  private struct Life {
    var state = State.created
    var instance: MachineInstance?
    var observers: [AsyncStream<State>.Continuation] = []
    var watchers: [@Sendable (State) -> Void] = []

    /// Tells everybody of the state.
    func tell() {
      for observer in observers { observer.yield(state) }
      for watcher in watchers { watcher(state) }
    }
    /// Asked for before there was an instance to stop.
    var stopCause: StopCause?
    var wantsPause = false
  }

  private let configuration: PlatformConfiguration
  private let technique: any Technique
  private let saved: MachineSaved?
  private let life = Mutex(Life())

  /// Validates nothing and touches nothing yet: see `PlatformConfiguration.validate(for:)`.
  /// - Parameter saved: where it goes on instead of booting the image; of a machine of the same configuration, but for
  ///   what is at its devices' other ends.
  public init(
    _ configuration: PlatformConfiguration, technique: any Technique, restoring saved: MachineSaved? = nil
  ) {
    self.configuration = configuration
    self.technique = technique
    self.saved = saved
  }

  /// The machine as a value, while it is paused: it may go on afterwards.
  /// - Throws: `TechniqueFailure` when a machine under this technique can't be saved, its guest runs a command for the
  ///   host, it is not paused, or the host refuses.
  public func save() throws(TechniqueFailure) -> MachineSaved {
    guard let instance = life.withLock({ $0.state == .paused ? $0.instance : nil }) else {
      throw TechniqueFailure(call: "saving the machine", reason: "it is not paused", remedy: "pause it first")
    }
    return try instance.save()
  }

  /// The current state.
  public var state: State { life.withLock { $0.state } }

  /// Every state from now on, the current one first; ends with the machine.
  public var states: AsyncStream<State> {
    AsyncStream { continuation in
      life.withLock { life in
        continuation.yield(life.state)
        if case .ended = life.state { continuation.finish() } else { life.observers.append(continuation) }
      }
    }
  }

  /// Calls `watcher` at each change of the state from now on, on the thread that changes it and before the next change can come:
  /// it must not use the machine.
  public func observe(_ watcher: @escaping @Sendable (State) -> Void) { life.withLock { $0.watchers.append(watcher) } }

  /// Runs the machine to its end on a thread of its own.
  /// - Throws: `MachineFailure` when there is nothing to run: the image, the memory or the technique.
  public func run(_ options: RunOptions = RunOptions()) async throws(MachineFailure) -> RunResult {
    let result: Result<RunResult, MachineFailure> = await withCheckedContinuation { continuation in
      let body: @Sendable () -> Void = {
        do throws(MachineFailure) {
          continuation.resume(returning: .success(try self.runOnThisThread(options)))
        } catch {
          continuation.resume(returning: .failure(error))
        }
      }
      if !DetachedThread.start(body) {
        let failure = TechniqueFailure(
          call: "pthread_create", reason: "no more threads", remedy: "raise the limit of processes (ulimit -u)")
        continuation.resume(returning: .failure(.technique(failure)))
      }
    }
    return try result.get()
  }

  /// Runs the machine to its end; blocks the calling thread, which also serves input, signals and the time limit.
  /// - Throws: `MachineFailure` when there is nothing to run: the image, the memory or the technique.
  public func runOnThisThread(_ options: RunOptions = RunOptions()) throws(MachineFailure) -> RunResult {
    defer {
      for sink in configuration.sinks { sink.close() }
      for link in configuration.networkDevices.flatMap(\.links) { link.close() }
    }
    var times = RunResult.Times()
    var counters = Counters()
    var details: [String: UInt64] = [:]
    var timeline: Timeline?
    // After a reset the image boots.
    var isFirst = true
    let deadline = options.timeLimit.map { monotonicNanoseconds() + $0 }
    while true {
      let began = monotonicNanoseconds()
      let instance: MachineInstance
      let loop: HostLoop
      do throws(MachineFailure) {
        instance = try MachineInstance(configuration, technique: technique, restoring: isFirst ? saved : nil)
        loop = try HostLoop(instance, configuration: configuration, options: options, deadline: deadline)
      } catch {
        end(.failed(TechniqueFailure(call: "machine set-up", reason: error.description)))
        throw error
      }
      if isFirst { options.whenAssembled?() }
      isFirst = false
      let started = monotonicNanoseconds()
      times.setUp += started - began
      if times.firstInstruction == 0 { times.firstInstruction = started }
      options.debugger?.attach(
        DebuggedInstance(
          instance, technique: technique.name, is32Bit: configuration.boot.isFor32BitProcessors))
      adopt(instance)
      let (cause, isOutputLost) = loop.waitForEnd()
      instance.stopDevices()
      timeline = timeline ?? instance.timeline(firstInstruction: started)
      let ended = monotonicNanoseconds()
      times.guest += ended - started
      let (ending, counted) = instance.threads.result ?? (.cancelled, Counters())
      counters = counters + counted
      details.merge(instance.threads.details, uniquingKeysWith: &+)
      let outcome =
        isOutputLost
        ? .stopped(cause ?? .request)
        : Self.outcome(ending, cause: cause, instance, command: configuration.command?.channel.progress)
      if outcome == .reset, configuration.resetPolicy == .restart {
        // The next life takes over what this one holds, the locks on its disks among it.
        life.withLock { $0.instance = nil }
        continue
      }
      options.debugger?.machineEnded(status: Self.exitCode(outcome))
      end(outcome)
      return RunResult(
        outcome: outcome, counters: counters, details: details, times: times, timeline: timeline ?? Timeline(),
        notes: instance.notes + instance.deviceFaults, balloon: instance.balloon?.report())
    }
  }

  /// What a debugger is told: the guest's own code, if it has ended by itself.
  private static func exitCode(_ outcome: Outcome) -> UInt8? {
    switch outcome {
    case .exited(let code): code
    case .commandEnded(let status): status.code
    case .poweredOff: 0
    default: nil
    }
  }

  /// Brings every processor to a stop between two instructions; returns when all are.
  public func pause() {
    let instance = life.withLock { life in
      life.wantsPause = true
      return life.instance
    }
    instance?.pause()
    transition(from: .running, to: .paused)
  }

  /// Lets the processors go on.
  public func resume() {
    let instance = life.withLock { life in
      life.wantsPause = false
      return life.instance
    }
    transition(from: .paused, to: .running)
    instance?.resume()
  }

  /// Ends the run in bounded time, whatever the guest does; returns at once.
  public func stop(_ cause: StopCause = .request) {
    let instance = life.withLock { life in
      life.stopCause = life.stopCause ?? cause
      return life.instance
    }
    instance?.requestStop(cause)
  }

  /// Says how much is to be in the balloon, in bytes; the guest follows as it can.
  /// - Returns: whether there is a balloon, in a machine that runs.
  public func resizeBalloon(to size: UInt64) -> Bool {
    guard let balloon = life.withLock({ $0.instance })?.balloon else { return false }
    balloon.resize(to: size)
    return true
  }

  /// How the balloon is, with the guest's newest statistics if they come in time.
  /// - Returns: `nil` without a balloon, or if the machine does not run.
  public func balloonReport(waitingMilliseconds: Int = 0) -> BalloonReport? {
    life.withLock { $0.instance }?.balloon?.report(waiting: waitingMilliseconds)
  }

  /// A new instance takes the place of the one before and begins to run, unless somebody paused or stopped meanwhile.
  private func adopt(_ instance: MachineInstance) {
    let (pauses, cause) = life.withLock { life in
      life.instance = instance
      return (life.wantsPause, life.stopCause)
    }
    if let cause { return instance.requestStop(cause) }
    if pauses {
      transition(from: .created, to: .paused)
    } else {
      transition(from: .created, to: .running)
      instance.resume()
    }
  }

  private func transition(from old: State, to new: State) {
    life.withLock { life in
      guard life.state == old else { return }
      life.state = new
      life.tell()
    }
  }

  private func end(_ outcome: Outcome) {
    life.withLock { life in
      life.instance = nil
      life.state = .ended(outcome)
      life.tell()
      for observer in life.observers { observer.finish() }
      life.observers = []
      life.watchers = []
    }
  }

  /// What the end of the processors means. A kernel that panicked may reset, halt or crash next: that is the panic's.
  private static func outcome(
    _ ending: ProcessorThreads.Ending, cause: StopCause?, _ instance: MachineInstance,
    command: CommandChannel.Progress?
  ) -> Outcome {
    // What comes after the command's end has no meaning.
    if case .ended(let status) = command { return .commandEnded(status) }
    if case .failed(let reason) = command, cause == nil {
      return .commandLost("something else than the protocol came over the command channel, ttyS1: \(reason)")
    }
    if case .refused(let reason) = command { return .commandLost(reason) }
    switch ending {
    case .stopped(.reset), .stopped(.tripleFault), .stopped(.halted), .stopped(.crashed):
      if let panic = instance.panic { return .panicked(panic) }
    case .cancelled where cause == .timeout:
      // One that waits before it resets (panic=60), or spins, has run out of what it had to do, not of time.
      if let panic = instance.lastingPanic { return .panicked(panic) }
    default: break
    }
    return switch ending {
    case .stopped(.exited(let code)): .exited(code: code)
    case .stopped(.shutdown):
      switch command {
      case nil: .poweredOff
      case .waiting: .commandLost("the guest switched off before the command began")
      default: .commandLost("the guest switched off before the command had ended")
      }
    case .stopped(.reset): .reset
    case .stopped(.tripleFault): .tripleFault
    case .stopped(.halted): .halted
    case .stopped(.crashed(let report)): .crashed(report)
    case .stopped(.stopRequested), .stopped(.debugger), .cancelled: .stopped(cause ?? .request)
    case .failed(let failure): .failed(failure)
    }
  }
}

/// What a run came to.
public struct RunResult: Sendable {
  /// Wall time in nanoseconds.
  public struct Times: Sendable {
    /// When the first instruction ran, on the host's CLOCK_MONOTONIC.
    public var firstInstruction: UInt64 = 0
    /// From the image to processors that are ready.
    public var setUp: UInt64 = 0
    /// From the first instruction until the last processor is gone and the output delivered.
    public var guest: UInt64 = 0
  }

  /// How it ended.
  public let outcome: Outcome
  /// Of all processors.
  public let counters: Counters
  /// What only the technique counts, by name.
  public let details: [String: UInt64]
  /// Where the time went.
  public let times: Times
  /// When the first life came how far.
  public let timeline: Timeline
  /// What the boot loader has to say, a sentence each.
  public let notes: [String]
  /// Of the last life, if there was a balloon.
  public let balloon: BalloonReport?
}
