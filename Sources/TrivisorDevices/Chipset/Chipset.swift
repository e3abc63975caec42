// A PC's interrupt and timer chips in software, for techniques whose host has none to offer.
//
//     devices ──line──▶ 8259 pair ──INTR──▶ LINT0 ┐
//        │                                         ▼
//        └────line──▶ I/O APIC ──message──▶ local APIC of each processor ──▶ `ProcessorInterrupts` ──▶ technique
//     8254, local timers ──▶ (a point in time: `deadline`)
//
// All chips are plain values under one lock; each operation on them ends in `refresh`, which works out for each processor
// whether something waits for it and when it must look again. Both are left where the processor's thread reads them
// without the lock; a bit that is new there wakes the processor. No thread and no timer of the host lives here: whoever
// runs a processor sees to it that `advance` is called when the deadline has come.
//
// Lock order: this lock, then whatever `wake` takes. Nothing here allocates once it is made.

import Synchronization
import TrivisorVMM

/// Local APICs, an I/O APIC, two 8259s and an 8254.
public final class Chipset: InterruptController {
  /// Under the lock.
  struct State {
    var locals: [LocalAPIC]
    var inputs = IOAPIC()
    var legacy = LegacyController()
    var timer = IntervalTimer()
    /// Lowest-priority interrupts go round.
    var lastArbitration = 0
  }

  /// The I/O APIC's page, as the ACPI tables say.
  public static let inputControllerAddress = GuestPhysicalAddress(0xfec0_0000)

  private let state: Mutex<State>
  private let signals: [ProcessorSignals]
  let clock: any ChipsetClock
  /// Of port 0x61.
  let speakerSwitches = SystemControlPortB.Switches()

  /// - Parameter processorCount: 1 to 255; local APIC identifiers are their indices.
  public init(processorCount: Int, clock: any ChipsetClock = HostChipsetClock()) {
    self.clock = clock
    let count = min(max(processorCount, 1), 255)
    signals = (0..<count).map { _ in ProcessorSignals() }
    state = Mutex(State(locals: (0..<count).map { LocalAPIC(index: $0) }))
  }

  /// The side of processor `index`; out of range, of the last one.
  public func processor(_ index: Int) -> ProcessorInterrupts {
    let index = min(max(index, 0), signals.count - 1)
    return ProcessorInterrupts(chipset: self, signals: signals[index], index: index)
  }

  // MARK: What devices do

  /// ISA lines go to both kinds of controllers, and each input has its line's number (as with KVM's default routes).
  public func setLine(_ line: Int, asserted: Bool) {
    withState { state in Self.setLine(&state, line, asserted) }
  }

  /// Messages whose address is not 0xfeex_xxxx go nowhere.
  public func deliver(_ message: InterruptMessage) {
    guard message.address >> 20 == 0xfee,
      let mode = DeliveryMode(rawValue: message.data >> 8 & 7)
    else { return }
    let address = UInt32(truncatingIfNeeded: message.address)
    withState { state in
      Self.route(
        &state,
        IOAPIC.Message(
          vector: UInt8(truncatingIfNeeded: message.data), mode: mode, isLogical: address & 4 != 0,
          destination: address >> 12 & 0xff, isLevel: message.data & 1 << 15 != 0))
    }
  }

  private static func setLine(_ state: inout State, _ line: Int, _ asserted: Bool) {
    state.legacy.setLine(line, asserted: asserted)
    if let message = state.inputs.setLine(line, asserted: asserted) { route(&state, message) }
  }

  /// Ends the HLT of the processor with this APIC ID, or its next one, if there is such a processor.
  public func kick(_ identifier: UInt32) {
    withState { state in
      if Int(identifier) < state.locals.count { state.locals[Int(identifier)].isKicked = true }
    }
  }

  // MARK: What happens inside

  /// Runs `body` under the lock, then tells processors what is new for them.
  func withState<Result>(_ body: (inout State) -> Result) -> Result {
    state.withLock { state in
      let wasInterrupting = state.legacy.isInterrupting
      let result = body(&state)
      if state.legacy.isInterrupting {
        // LINT0's entry may make something else of the 8259s' output than the usual.
        for index in state.locals.indices where !state.locals[index].passesLegacyController {
          if !wasInterrupting || state.locals[index].repeatsLinePin0 {
            state.locals[index].deliverLocal(LocalRegister.linePin0)
          }
        }
      }
      refresh(&state)
      return result
    }
  }

  /// Puts another state in place of the whole one: no line rises by that.
  func replaceState(_ body: (State) throws(RestoreFailure) -> State) throws(RestoreFailure) {
    try state.withLock { state throws(RestoreFailure) in
      state = try body(state)
      refresh(&state)
    }
  }

  private func refresh(_ state: inout State) {
    let isInterrupting = state.legacy.isInterrupting
    for index in state.locals.indices {
      var bits: ProcessorSignals.Pending = []
      // To one that waits for its start nothing else matters, though an NMI stays until it has started.
      if !state.locals[index].waitsForStartup {
        let isPassed = isInterrupting && state.locals[index].passesLegacyController
        if isPassed || state.locals[index].deliverable != nil { bits.insert(.interrupt) }
        if state.locals[index].hasNonMaskable { bits.insert(.nonMaskable) }
      }
      if state.locals[index].hasInitialize { bits.insert(.initialize) }
      if state.locals[index].startupVector != nil { bits.insert(.startup) }
      if state.locals[index].isKicked { bits.insert(.kick) }
      signals[index].update(bits, deadline: deadline(state, index))
    }
  }

  private func deadline(_ state: borrowing State, _ index: Int) -> UInt64 {
    var earliest = UInt64.max
    if let expiry = state.locals[index].nextTimerInterrupt(time(state.locals[index])) { earliest = expiry }
    // The 8254 belongs to all; the first processor looks after it.
    if index == 0, let event = state.timer.counters[0].nextEvent { earliest = min(earliest, event) }
    return earliest
  }

  /// Now, as a local APIC needs it: its counter's frequency only where that matters, because it may take time to learn.
  private func time(_ local: borrowing LocalAPIC) -> ChipsetTime {
    guard local.countsTimestamps else {
      return ChipsetTime(nanoseconds: clock.nanoseconds, timestamp: 0, timestampFrequency: 1)
    }
    return ChipsetTime(
      nanoseconds: clock.nanoseconds, timestamp: clock.timestamp &+ local.timestampOffset,
      timestampFrequency: clock.timestampFrequency)
  }

  /// Lets what is due by now happen.
  func advance(_ state: inout State, _ index: Int) {
    state.locals[index].advanceTimer(time(state.locals[index]))
    if index == 0 { advanceIntervalTimer(&state) }
  }

  func advanceIntervalTimer(_ state: inout State) {
    guard state.timer.advance(clock.nanoseconds) else { return }
    Self.setLine(&state, 0, false)
    Self.setLine(&state, 0, true)
  }

  /// The 8254 was programmed: its output is what its mode begins with.
  func restartIntervalTimer(_ state: inout State) {
    if !state.timer.counters[0].output(clock.nanoseconds) { Self.setLine(&state, 0, false) }
  }

  /// Brings a message to the local APICs that it is for.
  static func route(_ state: inout State, _ message: IOAPIC.Message) {
    var isAccepted = false
    if message.mode == .lowestPriority {
      if let index = arbitrate(&state, message) {
        isAccepted = state.locals[index].accept(message.vector, isLevel: message.isLevel)
      }
    } else {
      for index in state.locals.indices where isDestination(state.locals[index], message) {
        if deliver(&state, message, to: index) { isAccepted = true }
      }
    }
    if !isAccepted, let input = message.input { state.inputs.refuse(input) }
  }

  /// A local APIC may accept what it, or nobody, accepted before: level-triggered inputs try until somebody does.
  static func repeatInputs(_ state: inout State) {
    for input in 0..<IOAPIC.inputCount {
      if let message = state.inputs.again(input) { route(&state, message) }
    }
  }

  /// Brings a message to all local APICs but one.
  static func routeToOthers(_ state: inout State, _ message: IOAPIC.Message, than own: Int) {
    for index in state.locals.indices where index != own && state.locals[index].isEnabled {
      deliver(&state, message, to: index)
    }
  }

  private static func isDestination(_ local: borrowing LocalAPIC, _ message: IOAPIC.Message) -> Bool {
    guard local.isEnabled else { return false }
    return message.isLogical
      ? local.isLogicalDestination(message.destination, isWide: message.isWide)
      : local.isPhysicalDestination(message.destination, isWide: message.isWide)
  }

  /// - Returns: whether the local APIC has accepted a vector.
  @discardableResult
  private static func deliver(_ state: inout State, _ message: IOAPIC.Message, to index: Int) -> Bool {
    switch message.mode {
    case .fixed, .lowestPriority: return state.locals[index].accept(message.vector, isLevel: message.isLevel)
    case .nonMaskable: state.locals[index].acceptNonMaskable()
    case .initialize:
      state.locals[index].hasInitialize = true
      state.locals[index].startupVector = nil
    case .startup:
      // Counts only behind an INIT, taken or not.
      if state.locals[index].waitsForStartup || state.locals[index].hasInitialize {
        state.locals[index].startupVector = message.vector
      }
    // No system management mode. The 8259s ask their processor themselves.
    case .systemManagement, .external: break
    }
    return false
  }

  /// The least busy of the destinations, and of equals the next in turn.
  private static func arbitrate(_ state: inout State, _ message: IOAPIC.Message) -> Int? {
    var best: Int?
    var least = UInt8.max
    let count = state.locals.count
    for step in 1...count {
      let index = (state.lastArbitration + step) % count
      guard isDestination(state.locals[index], message), state.locals[index].acceptsInterrupts else { continue }
      let priority = state.locals[index].processorPriority
      if best == nil || priority < least { (best, least) = (index, priority) }
    }
    if let best { state.lastArbitration = best }
    return best
  }

  /// A local APIC ended a level-triggered interrupt.
  static func end(_ state: inout State, _ vector: UInt8) {
    for line in 0..<IOAPIC.inputCount {
      if let message = state.inputs.end(vector, at: line) { route(&state, message) }
    }
  }
}
