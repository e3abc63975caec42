// One virtual CPU of a PC: the loop around translated code, which takes what the interrupt chips have. It is a machine's processor's
// turn (`ProcessorTurn`) whenever it is in here, but for when it sleeps.
//
// Time works by an alarm: a timer of the host that kicks the processor when the chips' next deadline has come. A processor
// that waits (HLT) sleeps until then by itself.

import TrivisorCWorldSwitch
import TrivisorDevices
import TrivisorTranslation
import TrivisorVMM
import TrivisorX86

/// One virtual CPU of a `RewritingPartition`.
final class RewritingProcessor: Processor {
  private let partition: RewritingPartition
  /// What executes its code.
  let engine: TranslatedProcessor
  private var events: ProcessorEvents { ProcessorEvents(engine) }
  private let interrupts: ProcessorInterrupts
  private var alarm: ProcessorAlarm
  private var lostTime = LostTime()
  private var runDelay = RunDelay()
  private let turn: ProcessorTurn

  /// - Parameters:
  ///   - turn: its part in the rendezvous with the others; it is its turn now.
  ///   - identification: what CPUID says.
  init(
    partition: RewritingPartition, turn: ProcessorTurn, identification: CPUIDTable
  ) throws(TechniqueFailure) {
    self.partition = partition
    self.turn = turn
    interrupts = partition.chipset.processor(turn.index)
    engine = try TranslatedProcessor(
      in: PCSurroundings(partition, interrupts), store: partition.translations, guestMemory: partition.memory,
      memory: PhysicalMemory(partition.memory), identification: identification, turn: turn, trace: partition.trace)
    if turn.index != 0 { engine.activity = .waitingForStartup }
    let stop = engine.stop
    alarm = ProcessorAlarm { stop.kickFromOutside() }
    interrupts.connect { stop.kick() }
  }

  deinit { interrupts.connect(nil) }

  var stopHandle: any StopHandle { engine.stop }
  var counters: Counters { engine.counters }
  var details: [String: UInt64] {
    var details = engine.details
    // The machine's, told once.
    if turn.index == 0 {
      let tally = turn.tally
      details["world stops"] = tally.stops
      details["microseconds waiting for the world to stop"] = tally.nanosecondsStopping / 1000
      details["turns of a processor that others had"] = tally.turnsAwaited
      details["microseconds waiting for the turn"] = tally.nanosecondsAwaitingTurns / 1000
    }
    return details
  }

  var isHaltedForGood: Bool {
    engine.activity != .running && !engine.flags.contains(.interrupt) && !engine.hasEvent
      && !interrupts.pending.contains(.kick)
  }

  func readState() throws(TechniqueFailure) -> MachineState {
    turn.enter()
    defer { turn.leave() }
    return engine.readState()
  }
  func writeState(_ state: MachineState) throws(TechniqueFailure) {
    turn.enter()
    defer { turn.leave() }
    try engine.writeState(state)
  }
  func follow(_ orders: DebuggerOrders) {
    turn.enter()
    defer { turn.leave() }
    engine.follow(orders)
  }
  func walk(_ linear: UInt64) -> PageWalk {
    turn.enter()
    defer { turn.leave() }
    return engine.walk(linear)
  }
  func cpuidLeaf(_ function: UInt32, _ index: UInt32) -> CPUIDLeaf? { engine.cpuidLeaf(function, index) }

  func run() throws(TechniqueFailure) -> StopReason {
    try engine.enterThread()
    let began = cws_timestamp()
    turn.enter()
    defer {
      turn.leave()
      engine.leaveThread()
      engine.ledger.total &+= cws_timestamp() &- began
    }
    engine.adoptOrders()
    lostTime.enter(now: monotonicNanoseconds())
    runDelay.enter(now: monotonicNanoseconds())
    while true {
      if engine.settle() { return .stopRequested }
      let wasWaiting = engine.activity != .running
      if wasWaiting, !waitForEvent() { continue }
      if let reason = events.deliverPendingEvent() { return reason }
      if engine.isSteppedByDebugger, !wasWaiting {
        // What comes meanwhile waits, or steps would lead through the timer's interrupts.
        engine.stepsOnce = false
      } else {
        if let reason = takeEvents() { return reason }
        if engine.isSteppedByDebugger, engine.activity == .running { return .debugger(.step) }
      }
      guard engine.activity == .running else { continue }
      switch engine.run() {
      case .exception(let exception):
        engine.beginException()
        if let reason = events.raise(exception) { return reason }
        if let reason = engine.stopBehindException() { return .debugger(reason) }
      case .stop(.stopRequested):
        // Answered at the top, where a request cannot be lost.
        continue
      case .stop(let reason):
        return reason
      case .unsupported(let name):
        return .crashed(engine.crashReport("\(name) is not translated yet"))
      }
    }
  }

  /// Takes what the chips have, before the next block.
  /// - Returns: why the machine ends, if it does.
  private func takeEvents() -> StopReason? {
    engine.stepsOnce = false
    noteRests()
    // Before the guest can learn of it by a timer's interrupt.
    if lostTime.isLong(now: monotonicNanoseconds()) { events.tellOfLostTime() }
    if turn.isShared, let stolen = runDelay.take(now: monotonicNanoseconds()) { events.tellOfStolenTime(stolen) }
    interrupts.letTimePass()
    while engine.hasEvent {
      if engine.shadow != .none {
        engine.stepsOnce = true
        break
      }
      let event = interrupts.takeEvent(
        acceptsInterrupts: engine.flags.contains(.interrupt),
        acceptsNonMaskable: !engine.pendingEvents.nonMaskableBlocked)
      guard let event else { break }
      if let reason = take(event) { return reason }
      if engine.activity != .running { break }
    }
    alarm.set(interrupts.deadline, now: monotonicNanoseconds())
    return nil
  }

  /// A processor that spins and rests has not lost the time, nor has anybody stolen it.
  private func noteRests() {
    let rested = engine.ledger.rested
    engine.ledger.rested = 0
    guard rested > 0 else { return }
    lostTime.rested(rested)
    runDelay.rested(rested)
  }

  private func take(_ event: ProcessorInterrupts.Event) -> StopReason? {
    switch event {
    case .interrupt(let vector): return events.deliverEvent(vector, isSoftware: false)
    case .nonMaskable:
      engine.pendingEvents.nonMaskableBlocked = true
      return events.deliverEvent(ExceptionVector.nonMaskableInterrupt.rawValue, isSoftware: false)
    case .initialize:
      events.initialize()
      engine.activity = interrupts.base & MSR.isBootstrapProcessor != 0 ? .running : .waitingForStartup
    case .startup(let vector): events.begin(at: vector)
    }
    return nil
  }

  /// Sleeps until something wakes the processor.
  /// - Returns: `false` if that is a request to stop.
  private func waitForEvent() -> Bool {
    let began = cws_timestamp()
    defer { engine.ledger.asleep &+= cws_timestamp() &- began }
    alarm.clear()
    while true {
      interrupts.letTimePass()
      let events = engine.pendingEvents
      let hasOwnEvent =
        events.exception != nil || events.interrupt != nil
        || (events.nonMaskablePending && !events.nonMaskableBlocked)
      if engine.hasEvent || hasOwnEvent {
        if engine.activity == .halted { engine.activity = .running }
        return true
      }
      if engine.activity == .halted, interrupts.takeKick() {
        engine.activity = .running
        return true
      }
      let (deadline, lay) = (interrupts.deadline, monotonicNanoseconds())
      self.events.fallAsleep()
      turn.leave()
      let awakening = engine.sleep(until: deadline)
      let rose = monotonicNanoseconds()
      turn.enter()
      self.events.wakeUp()
      lostTime.slept(from: lay, to: rose, deadline: deadline)
      runDelay.slept(from: lay, to: rose)
      if awakening == .request { return false }
    }
  }
}
