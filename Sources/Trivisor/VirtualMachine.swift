// A machine for one run.
//
//     start() ──▶ a thread of its own: MachineAssembly ──▶ the platform's machine ──▶ RunResult
//                                  or: WorkerMachine ──▶ a process that does the same ──▶ RunResult
//     run() = start() and `result`; the end of its task stops the machine
//
// Nothing of a machine runs on the tasks' own threads: its processors, its devices and the wait for its end have theirs.

import Synchronization
import TrivisorPlatform
import TrivisorVMM

/// A virtual machine: configured once, run once, paused and stopped from anywhere.
public final class VirtualMachine: Sendable {
  /// Where a machine is in its life.
  public enum State: Sendable, Equatable {
    /// Made, not started, or being assembled.
    case created
    /// Executing.
    case running
    /// Every processor stands between two instructions.
    case paused
    /// Over.
    case ended(Outcome)
  }

  private struct Life {
    var isStarted = false
    var state = State.created
    var machine: (any RunningMachine)?
    var choice: TechniqueChoice?
    /// Asked for before there was a platform's machine.
    var wantsPause = false
    var isStopped = false
    var result: Result<RunResult, VirtualMachineError>?
    var waiting: [CheckedContinuation<Result<RunResult, VirtualMachineError>, Never>] = []
    var observers: [AsyncStream<State>.Continuation] = []
  }

  private let configuration: VirtualMachineConfiguration
  private let life = Mutex(Life())

  /// Touches nothing yet.
  public init(_ configuration: VirtualMachineConfiguration) { self.configuration = configuration }

  /// What runs the guest, and why; once that is decided.
  public var choice: TechniqueChoice? { life.withLock { $0.choice } }

  // MARK: Its life

  /// Begins the run, and returns at once.
  /// - Throws: `VirtualMachineError.alreadyStarted`, or `.host` without a thread.
  public func start() throws(VirtualMachineError) {
    let isFirst = life.withLock { life in
      defer { life.isStarted = true }
      return !life.isStarted
    }
    guard isFirst else { throw .alreadyStarted }
    guard DetachedThread.start({ self.finish(self.assembleAndRun()) }) else {
      let error = VirtualMachineError.host("no thread can be made: raise the limit of processes (ulimit -u)")
      for output in configuration.outputs { output.giveUp() }
      finish(.failure(error))
      throw error
    }
  }

  /// What the run came to; waits for its end. Of a machine that is never started, for ever.
  public var result: RunResult {
    get async throws(VirtualMachineError) {
      try await withCheckedContinuation { continuation in
        let result = life.withLock { life in
          if life.result == nil { life.waiting.append(continuation) }
          return life.result
        }
        if let result { continuation.resume(returning: result) }
      }.get()
    }
  }

  /// Runs the machine to its end. When the task is cancelled, the machine is stopped, and the result says so.
  /// - Throws: `VirtualMachineError`: nothing ran.
  public func run() async throws(VirtualMachineError) -> RunResult {
    try start()
    let ended: Result<RunResult, VirtualMachineError> = await withTaskCancellationHandler {
      do throws(VirtualMachineError) { return .success(try await result) } catch { return .failure(error) }
    } onCancel: {
      stop()
    }
    return try ended.get()
  }

  /// Ends the run in bounded time, whatever the guest does; returns at once. A machine that is stopped before it is started
  /// runs nothing.
  public func stop() {
    let machine = life.withLock { life in
      life.isStopped = true
      return life.machine
    }
    machine?.stop()
  }

  /// Brings every processor to a stop between two instructions; returns when all are.
  public func pause() async {
    let machine = life.withLock { life in
      life.wantsPause = true
      return life.machine
    }
    guard let machine else { return }
    await withCheckedContinuation { continuation in
      let work: @Sendable () -> Void = {
        machine.pause()
        continuation.resume()
      }
      if !DetachedThread.start(work) { work() }
    }
  }

  /// Lets the processors go on.
  public func resume() {
    let machine = life.withLock { life in
      life.wantsPause = false
      return life.machine
    }
    machine?.resume()
  }

  /// Says how much is to be in the memory balloon; the guest follows as it can.
  /// - Returns: whether there is a balloon, in a machine that runs.
  @discardableResult
  public func resizeMemoryBalloon(to size: ByteCount) -> Bool {
    life.withLock { $0.machine }?.resizeBalloon(to: size.bytes) ?? false
  }

  /// How the memory balloon is, with the guest's last statistics.
  /// - Returns: `nil` without a balloon, or if the machine does not run.
  public var memoryBalloon: MemoryBalloonReport? {
    life.withLock { $0.machine }?.balloonReport()
  }

  /// Every state from now on, the current one first; ends with the machine.
  public var states: AsyncStream<State> {
    let (stream, continuation) = AsyncStream<State>.makeStream()
    life.withLock { life in
      continuation.yield(life.state)
      if case .ended = life.state { continuation.finish() } else { life.observers.append(continuation) }
    }
    return stream
  }

  private func change(to state: State) {
    life.withLock { life in
      guard life.state != state else { return }
      if case .ended = life.state { return }
      life.state = state
      for observer in life.observers { observer.yield(state) }
    }
  }

  // MARK: On its thread

  private func assembleAndRun() -> Result<RunResult, VirtualMachineError> {
    do throws(VirtualMachineError) {
      return configuration.isolation == .worker ? try runInWorker() : try runHere()
    } catch {
      for output in configuration.outputs { output.giveUp() }
      return .failure(error)
    }
  }

  private func runHere() throws(VirtualMachineError) -> Result<RunResult, VirtualMachineError> {
    let assembly = try MachineAssembly(configuration) { [weak self] in self?.breakOff() }
    assembly.machine.observe { [weak self] state in
      // The end is told with the result.
      if case .ended = state { return }
      self?.change(to: State(state))
    }
    life.withLock { $0.choice = assembly.choice }
    adopt(OwnMachine(platform: assembly.machine))
    do throws(MachineFailure) {
      let result = try assembly.machine.runOnThisThread(assembly.options)
      return .success(RunResult(result, choice: assembly.choice, missingFeatures: assembly.missingFeatures))
    } catch {
      return .failure(VirtualMachineError(error))
    }
  }

  private func runInWorker() throws(VirtualMachineError) -> Result<RunResult, VirtualMachineError> {
    let machine = try WorkerMachine(
      configuration,
      whenChosen: { [weak self] choice in self?.life.withLock { $0.choice = choice } },
      whenChanged: { [weak self] state in self?.change(to: state) })
    adopt(machine)
    let result = machine.run()
    // Streams have ended; what else is to be closed is the caller's descriptors.
    for output in configuration.outputs { output.giveUp() }
    return result
  }

  /// From here on, the machine is asked and told.
  private func adopt(_ machine: any RunningMachine) {
    let (pauses, stops) = life.withLock { life in
      life.machine = machine
      return (life.wantsPause, life.isStopped)
    }
    if stops { machine.stop() } else if pauses { machine.pause() }
  }

  private func breakOff() {
    if let machine = life.withLock({ $0.machine }) as? OwnMachine { machine.platform.stop(.outputClosed) }
  }

  private func finish(_ result: Result<RunResult, VirtualMachineError>) {
    for input in configuration.inputs { input.finish() }
    let state = State.ended(Self.outcome(result))
    let (waiting, observers) = life.withLock { life in
      life.result = result
      life.state = state
      defer { (life.waiting, life.observers) = ([], []) }
      return (life.waiting, life.observers)
    }
    for continuation in waiting { continuation.resume(returning: result) }
    for observer in observers {
      observer.yield(state)
      observer.finish()
    }
  }

  private static func outcome(_ result: Result<RunResult, VirtualMachineError>) -> Outcome {
    switch result {
    case .success(let result): result.outcome
    case .failure(let error): .failed(error.description)
    }
  }
}

extension VirtualMachine.State {
  init(_ state: TrivisorPlatform.VirtualMachine.State) {
    self =
      switch state {
      case .created: .created
      case .running: .running
      case .paused: .paused
      case .ended(let outcome): .ended(Outcome(outcome))
      }
  }
}
