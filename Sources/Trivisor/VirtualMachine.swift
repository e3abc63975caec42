// A machine for one run.
//
//     start() ──▶ a thread of its own: MachineAssembly ──▶ the platform's machine ──▶ RunResult
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
    var platform: TrivisorPlatform.VirtualMachine?
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
    let platform = life.withLock { life in
      life.isStopped = true
      return life.platform
    }
    platform?.stop()
  }

  /// Brings every processor to a stop between two instructions; returns when all are.
  public func pause() async {
    let platform = life.withLock { life in
      life.wantsPause = true
      return life.platform
    }
    guard let platform else { return }
    await withCheckedContinuation { continuation in
      let work: @Sendable () -> Void = {
        platform.pause()
        continuation.resume()
      }
      if !DetachedThread.start(work) { work() }
    }
  }

  /// Lets the processors go on.
  public func resume() {
    let platform = life.withLock { life in
      life.wantsPause = false
      return life.platform
    }
    platform?.resume()
  }

  /// Says how much is to be in the memory balloon; the guest follows as it can.
  /// - Returns: whether there is a balloon, in a machine that runs.
  @discardableResult
  public func resizeMemoryBalloon(to size: ByteCount) -> Bool {
    life.withLock { $0.platform }?.resizeBalloon(to: size.bytes) ?? false
  }

  /// How the memory balloon is, with the guest's last statistics.
  /// - Returns: `nil` without a balloon, or if the machine does not run.
  public var memoryBalloon: MemoryBalloonReport? {
    life.withLock { $0.platform }?.balloonReport().map { MemoryBalloonReport($0) }
  }

  /// Every state from now on, the current one first; ends with the machine.
  public var states: AsyncStream<State> {
    let (stream, continuation) = AsyncStream<State>.makeStream()
    let platform = life.withLock { life -> TrivisorPlatform.VirtualMachine? in
      if let platform = life.platform { return platform }
      if let result = life.result {
        continuation.yield(.ended(Self.outcome(result)))
        continuation.finish()
      } else {
        continuation.yield(.created)
        life.observers.append(continuation)
      }
      return nil
    }
    if let platform { Self.forward(platform, to: continuation) }
    return stream
  }

  private static func forward(
    _ platform: TrivisorPlatform.VirtualMachine, to continuation: AsyncStream<State>.Continuation,
    isFollowing: Bool = false
  ) {
    let states = platform.states
    let task = Task {
      for await state in states where !(isFollowing && state == .created) { continuation.yield(State(state)) }
      continuation.finish()
    }
    continuation.onTermination = { _ in task.cancel() }
  }

  // MARK: On its thread

  private func assembleAndRun() -> Result<RunResult, VirtualMachineError> {
    let assembly: MachineAssembly
    do throws(VirtualMachineError) {
      assembly = try MachineAssembly(configuration) { [weak self] in self?.breakOff() }
    } catch {
      for output in configuration.outputs { output.giveUp() }
      return .failure(error)
    }
    adopt(assembly)
    do throws(MachineFailure) {
      let result = try assembly.machine.runOnThisThread(assembly.options)
      return .success(RunResult(result, choice: assembly.choice, missingFeatures: assembly.missingFeatures))
    } catch {
      return .failure(VirtualMachineError(error))
    }
  }

  /// From here on, the platform's machine is asked and told.
  private func adopt(_ assembly: MachineAssembly) {
    let (observers, pauses, stops) = life.withLock { life in
      life.platform = assembly.machine
      life.choice = assembly.choice
      defer { life.observers = [] }
      return (life.observers, life.wantsPause, life.isStopped)
    }
    for observer in observers { Self.forward(assembly.machine, to: observer, isFollowing: true) }
    if pauses { assembly.machine.pause() }
    if stops { assembly.machine.stop() }
  }

  private func breakOff() { life.withLock { $0.platform }?.stop(.outputClosed) }

  private func finish(_ result: Result<RunResult, VirtualMachineError>) {
    for input in configuration.inputs { input.finish() }
    let (waiting, observers) = life.withLock { life in
      life.result = result
      defer { (life.waiting, life.observers) = ([], []) }
      return (life.waiting, life.observers)
    }
    for continuation in waiting { continuation.resume(returning: result) }
    for observer in observers {
      observer.yield(.ended(Self.outcome(result)))
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
