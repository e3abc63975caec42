// The processors' threads: one host thread a virtual CPU, from its making to its end.
//
//              start()                resume()
//     (none) ──────────▶ paused ◀────────────────▶ running ──────▶ ending ──▶ ended
//                                     pause()              stop(), or a processor stops by itself
//
// Every thread makes its processor itself (KVM wants that), then runs it whenever the phase is `running`. None runs
// before all are made: a guest starts its processors by messages, and one that finds nobody is lost. To pause or stop,
// the phase is changed first and each processor is then asked to stop; because a request that comes between two runs
// ends the next one at once, none is lost. The first reason to end wins; the last thread to leave reports it.
//
// Two want the processors to stand or to run: the machine's owner (`pause`, `resume`), and a debugger from outside
// (`ProcessorThreads+Debugger`). They run when neither wants them to stand.
//
// Lock order: the monitor is the only lock here; no call into a processor or a device is made with it held.

import Glibc

/// Runs the processors of one partition.
public final class ProcessorThreads: Sendable {
  /// How it ended.
  public enum Ending: Sendable, Equatable {
    /// A processor came back with a reason (never `.stopRequested`), or `stop(_:)` gave one.
    case stopped(StopReason)
    /// The host refused something.
    case failed(TechniqueFailure)
    /// Ended from outside.
    case cancelled
  }

  enum Phase {
    case paused, running, ending
  }

  struct State {
    var phase = Phase.paused
    /// The owner wants the processors to run.
    var isWanted = false
    /// What a debugger wants, and what is to be told to it.
    var debugger: DebuggerHold
    var ending: Ending?
    /// By processor; `nil` before it is made and after it is gone.
    var handles: [(any StopHandle)?]
    /// Processors that were made.
    var made = 0
    /// Threads that wait for the phase to become `running`.
    var parked = 0
    /// Of these, processors that nothing can wake.
    var haltedForGood = 0
    /// Whether it is looked for, and then, of these, processors that execute the guest's kernel.
    var looksForKernel = false
    var busyInKernel = 0
    /// By processor: what is to be done on its thread while it stands, and whether the thread is at it.
    var jobs: [(@Sendable (any Processor) -> Void)?]
    var isWorking: [Bool]
    /// Threads that have not ended.
    var live: Int
    var counters = Counters()
    var details: [String: UInt64] = [:]
  }

  private let partition: any Partition
  let count: Int
  let state: Monitor<State>
  private let begin: @Sendable (_ index: Int, any Processor) throws(TechniqueFailure) -> Void
  private let whenEnded: @Sendable () -> Void

  /// - Parameters:
  ///   - handover: where the guest begins.
  ///   - whenEnded: called once, on the last thread, after every processor is gone.
  public convenience init(
    partition: any Partition, count: Int, handover: Handover, whenEnded: @escaping @Sendable () -> Void
  ) {
    self.init(
      partition: partition, count: count,
      begin: { (index: Int, processor: any Processor) throws(TechniqueFailure) in
        if index == 0 { try processor.begin(handover) } else { try processor.wait(behind: handover) }
      },
      whenEnded: whenEnded)
  }

  /// - Parameters:
  ///   - states: where each processor goes on, one for each.
  ///   - whenEnded: called once, on the last thread, after every processor is gone.
  public convenience init(
    partition: any Partition, restoring states: [MachineState], whenEnded: @escaping @Sendable () -> Void
  ) {
    self.init(
      partition: partition, count: states.count,
      begin: { (index: Int, processor: any Processor) throws(TechniqueFailure) in
        try processor.writeState(states[index])
      }, whenEnded: whenEnded)
  }

  /// - Parameters:
  ///   - bootstrap: turns processor 0's reset state into the one that it begins in.
  ///   - whenEnded: called once, on the last thread, after every processor is gone.
  public convenience init(
    partition: any Partition, count: Int, bootstrap: @escaping @Sendable (inout MachineState) -> Void,
    whenEnded: @escaping @Sendable () -> Void
  ) {
    self.init(
      partition: partition, count: count,
      begin: { (index: Int, processor: any Processor) throws(TechniqueFailure) in
        guard index == 0 else { return }
        var state = try processor.readState()
        bootstrap(&state)
        try processor.writeState(state)
      }, whenEnded: whenEnded)
  }

  private init(
    partition: any Partition, count: Int,
    begin: @escaping @Sendable (_ index: Int, any Processor) throws(TechniqueFailure) -> Void,
    whenEnded: @escaping @Sendable () -> Void
  ) {
    self.partition = partition
    self.count = count
    self.begin = begin
    self.whenEnded = whenEnded
    state = Monitor(
      State(
        debugger: DebuggerHold(processorCount: count), handles: Array(repeating: nil, count: count),
        jobs: Array(repeating: nil, count: count), isWorking: Array(repeating: false, count: count), live: count))
  }

  /// Makes threads and processors, paused. An error in making one ends them all and is told by `ending`.
  public func start() {
    for index in 0..<count {
      let box = Unmanaged.passRetained(ThreadStart(threads: self, index: index))
      var thread = pthread_t()
      let error = pthread_create(&thread, nil, { ThreadStart.body($0) }, box.toOpaque())
      if error == 0 {
        pthread_detach(thread)
      } else {
        box.release()
        finish(
          index,
          ending: .failed(
            TechniqueFailure(
              call: "pthread_create", reason: String(cString: strerror(error)),
              remedy: "raise the limit of processes (ulimit -u) or lower \(Setting.processors)")))
        leave(counters: Counters())
      }
    }
  }

  /// Lets the processors run, as far as their owner is concerned.
  public func resume() {
    state.with { state in
      state.isWanted = true
      if state.phase == .paused, !state.debugger.isHolding { state.phase = .running }
    }
  }

  /// Brings every processor to a stop between two instructions and returns when all are, or when it has ended.
  public func pause() {
    while !pause(milliseconds: 1000) {}
  }

  /// As `pause()`, but gives up waiting, not pausing, after `milliseconds`: a thread can be held up by the host on a
  /// device's behalf.
  /// - Parameters:
  ///   - milliseconds: how long to wait.
  ///   - looksForKernel: so that `areAllInKernelOrGone` can be asked; it costs the reading of each state.
  /// - Returns: whether every processor stands, or it has ended.
  public func pause(milliseconds: Int, looksForKernel: Bool = false) -> Bool {
    state.with { state in
      state.looksForKernel = looksForKernel
      state.isWanted = false
      if state.phase == .running { state.phase = .paused }
    }
    return waitUntilTheyStand(milliseconds: milliseconds)
  }

  /// Whether every processor stands within the time, or it has ended.
  func waitUntilTheyStand(milliseconds: Int) -> Bool {
    let deadline = monotonicNanoseconds() + UInt64(milliseconds) * 1_000_000
    repeat {
      // A request is not lost, but a thread may have spent it in a host call: ask again.
      kick()
      let stands = state.wait(milliseconds: 2) { $0.parked == $0.live || $0.phase == .ending ? true : nil }
      if stands != nil { return true }
    } while monotonicNanoseconds() < deadline
    return false
  }

  /// The state of each processor, read on its own thread. Only while paused.
  /// - Throws: `TechniqueFailure` when the host refuses to tell, or the processors don't stand.
  public func readStates() throws(TechniqueFailure) -> [MachineState] {
    var states: [MachineState] = []
    for index in 0..<count {
      states.append(try perform(on: index) { (processor) throws(TechniqueFailure) in try processor.readState() })
    }
    return states
  }

  /// Does something with a processor, on its own thread, while it stands; returns when it is done.
  /// - Throws: what `body` throws, or a `TechniqueFailure` of its own when the processor doesn't stand.
  public func perform<Answer: Sendable>(
    on index: Int, _ body: @escaping @Sendable (any Processor) throws(TechniqueFailure) -> Answer
  ) throws(TechniqueFailure) -> Answer {
    let answer = Monitor<Result<Answer, TechniqueFailure>?>(nil)
    let isAccepted = state.wait { state -> Bool? in
      guard state.stands(index) else { return false }
      // One at a time.
      guard state.jobs[index] == nil, !state.isWorking[index] else { return nil }
      state.jobs[index] = { processor in
        let result = Result { () throws(TechniqueFailure) in try body(processor) }
        answer.with { $0 = result }
      }
      return true
    }
    if isAccepted {
      // Whoever waits is woken by changes only.
      state.with { _ in }
      state.wait { state -> Void? in
        if state.jobs[index] != nil, state.stands(index) { return nil }
        state.jobs[index] = nil
        return state.isWorking[index] ? nil : ()
      }
    }
    guard let result = answer.with({ $0 }) else {
      throw TechniqueFailure(call: "asking a processor", reason: "it doesn't stand", remedy: "pause first")
    }
    return try result.get()
  }

  /// Ends the machine; returns at once. The first ending wins.
  public func stop(_ ending: Ending) {
    state.with { state in
      if state.ending == nil { state.ending = ending }
      state.phase = .ending
    }
    kick()
  }

  /// Asks every processor to stop, again: for a thread that was in a host call when it was first asked.
  public func kick() {
    for handle in state.with({ $0.handles }) { handle?.requestStop() }
  }

  /// Only while paused: whether no processor can ever run again.
  public var isHaltedForGood: Bool {
    state.with { $0.phase == .paused && $0.parked == $0.live && $0.live > 0 && $0.haltedForGood == $0.live }
  }

  /// Only while paused with `looksForKernel`: whether each processor executes the guest's kernel or can never run again,
  /// as those of a kernel that gave up do.
  public var areAllInKernelOrGone: Bool {
    state.with {
      $0.phase == .paused && $0.parked == $0.live && $0.live > 0 && $0.haltedForGood + $0.busyInKernel == $0.live
    }
  }

  /// Why it ended and what was counted, once every thread is gone.
  public var result: (ending: Ending, counters: Counters)? {
    state.with { state in
      state.live == 0 ? (state.ending ?? .cancelled, state.counters) : nil
    }
  }

  /// What the technique counted by names of its own, once every thread is gone.
  public var details: [String: UInt64] { state.with { $0.details } }

  /// Waits until every thread is gone.
  public func join() {
    while state.wait(milliseconds: 5, { $0.live == 0 ? true : nil }) == nil {
      if state.with({ $0.phase == .ending }) { kick() }
    }
  }

  fileprivate func runThread(_ index: Int) {
    var blocked = sigset_t()
    sigfillset(&blocked)
    // Signals for the process belong to the thread that waits for them; faults stay where they happen.
    for signal in [SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS] { sigdelset(&blocked, signal) }
    pthread_sigmask(SIG_SETMASK, &blocked, nil)
    var counters = Counters()
    var details: [String: UInt64] = [:]
    let began = monotonicNanoseconds()
    var running: UInt64 = 0
    do throws(TechniqueFailure) {
      let processor = try partition.makeProcessor(index: index)
      try begin(index, processor)
      let handle = processor.stopHandle
      state.with { state in
        state.handles[index] = handle
        state.made += 1
      }
      state.wait { $0.made == count || $0.phase == .ending ? () : nil }
      let started = monotonicNanoseconds()
      let ending = try run(processor, index)
      running = monotonicNanoseconds() - started
      counters = processor.counters
      details = processor.details
      finish(index, ending: ending)
    } catch {
      finish(index, ending: .failed(error))
    }
    details["microseconds making the processor and letting it go"] = (monotonicNanoseconds() - began - running) / 1000
    leave(counters: counters, details: details)
  }

  /// Runs until there is a reason to end; `nil` when another processor gave it.
  private func run(_ processor: any Processor, _ index: Int) throws(TechniqueFailure) -> Ending? {
    while true {
      if park(processor, index) { return nil }
      if let ending = state.with({ $0.dueEnding }) { return ending }
      let reason = try processor.run()
      switch reason {
      case .stopRequested: break
      case .debugger(let stop): stopForDebugger(index, stop)
      default:
        if !holdEnding(index, reason) { return .stopped(reason) }
      }
    }
  }

  /// What a parked thread does next.
  private enum Call {
    case work(@Sendable (any Processor) -> Void), run, end
  }

  /// Waits while the processor is to stand, and does with it what it is asked for. Whether the end has come.
  private func park(_ processor: any Processor, _ index: Int) -> Bool {
    let (isPaused, looksForKernel) = state.with { ($0.stands(index), $0.looksForKernel) }
    let halted = isPaused && processor.isHaltedForGood
    let busy = isPaused && looksForKernel && !halted && processor.isBusyInKernel
    var counted = false
    if isPaused {
      counted = true
      state.with { state in
        state.parked += 1
        state.haltedForGood += halted ? 1 : 0
        state.busyInKernel += busy ? 1 : 0
      }
    }
    while true {
      let call: Call = state.wait { state in
        if state.stands(index), counted {
          guard let job = state.jobs[index] else { return nil }
          state.jobs[index] = nil
          state.isWorking[index] = true
          return .work(job)
        }
        // With the decision to go on, or the next pause would take this thread for one that stands.
        if counted {
          state.parked -= 1
          state.haltedForGood -= halted ? 1 : 0
          state.busyInKernel -= busy ? 1 : 0
        }
        // Paused between the two looks: run once more; the request to stop is already there.
        return state.phase == .ending ? .end : .run
      }
      switch call {
      case .work(let job):
        job(processor)
        state.with { $0.isWorking[index] = false }
      case .run: return false
      case .end: return true
      }
    }
  }

  private func finish(_ index: Int, ending: Ending?) {
    state.with { state in
      state.handles[index] = nil
      if state.ending == nil, let ending { state.ending = ending }
      state.phase = .ending
    }
    kick()
  }

  private func leave(counters: Counters, details: [String: UInt64] = [:]) {
    let isLast = state.with { state in
      state.counters = state.counters + counters
      state.details.merge(details, uniquingKeysWith: &+)
      state.live -= 1
      return state.live == 0
    }
    if isLast { whenEnded() }
  }
}

/// What a new thread is given.
private final class ThreadStart: Sendable {
  private let threads: ProcessorThreads
  private let index: Int

  init(threads: ProcessorThreads, index: Int) {
    self.threads = threads
    self.index = index
  }

  static func body(_ argument: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    guard let argument else { return nil }
    let start = Unmanaged<ThreadStart>.fromOpaque(argument).takeRetainedValue()
    start.threads.runThread(start.index)
    return nil
  }
}
