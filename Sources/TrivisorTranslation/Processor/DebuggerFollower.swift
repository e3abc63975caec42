// What a debugger from outside wants of a processor, beside the guest's own trap flag and breakpoint registers.
//
// Breakpoints are planned around: a block ends before one, and a block that would begin with one is a planned exit
// (`BlockPlan`). Code for any linear address knows only offsets in pages, so that such an exit may be one too many: it is
// then passed, like the breakpoint at which a run begins, by a block of one instruction.
//
// Pages with watched bytes never get into the TLB of data, so that each access to them comes to Swift. If it is one to the
// bytes themselves, the instruction is begun anew by itself, with every access looked at, and the processor stops behind it.
//
// Single steps are blocks of one instruction, as they are for the trap flag; the flag itself stays as the guest has it.

import TrivisorInstructionSet
import TrivisorVMM
import TrivisorX86

/// A debugger's orders on their way through a run. Used on the thread of its processor.
final class DebuggerFollower {
  private(set) var orders = DebuggerOrders.none
  /// They have changed since they were looked at.
  private var isFresh = false
  /// What was watched in the run before.
  private var watchedBefore: [Watchpoint] = []
  /// The breakpoint at which the run begins: its instruction is executed once.
  private(set) var passing: UInt64?
  /// What the instruction in work has used of what is watched.
  @exclusivity(unchecked) var hit: Watchpoint?
  /// To be told as soon as the guest's own exception is delivered.
  @exclusivity(unchecked) private var pending: DebuggerStop?

  /// Somebody watches bytes.
  @exclusivity(unchecked) private(set) var isWatching = false

  func follow(_ orders: DebuggerOrders) {
    self.orders = orders
    isWatching = !orders.watchpoints.isEmpty
    isFresh = true
    hit = nil
    pending = nil
  }

  /// Whether accesses to a page must be seen.
  @inline(__always)
  func watches(page linear: UInt64) -> Bool { isWatching && watchesPage(linear) }

  private func watchesPage(_ linear: UInt64) -> Bool {
    orders.watchpoints.contains { point in
      // Modulo 2^64, as the bytes of one may be.
      let first = point.address & ~4095
      return (linear & ~4095) &- first <= ((point.address &+ point.length &- 1) & ~4095) &- first
    }
  }

  /// What of it an access uses.
  func watchpoint(_ linear: UInt64, count: Int, isWrite: Bool) -> Watchpoint? {
    orders.watchpoints.first { $0.isHit(by: linear, count: UInt64(count), isWrite: isWrite) }
  }

  /// An access of the instruction in work.
  func note(_ linear: UInt64, count: Int, isWrite: Bool) {
    hit = hit ?? watchpoint(linear, count: count, isWrite: isWrite)
  }

  /// What is to be told; nothing afterwards.
  func takePending() -> DebuggerStop? {
    guard let stop = pending else { return nil }
    pending = nil
    return stop
  }

  /// The stop at a breakpoint, if there is one at this linear address that the run doesn't begin at.
  func stop(at linear: UInt64) -> DebuggerStop? {
    guard linear != passing else { return nil }
    if orders.hardwareBreakpoints.contains(linear) { return .breakpoint(isHardware: true) }
    return orders.breakpoints.contains(linear) ? .breakpoint(isHardware: false) : nil
  }

  /// Before a run at an address: what changed since the last one comes into force.
  func adopt(
    at linear: UInt64, in control: ControlState, _ translations: AddressTranslations, _ store: TranslationCache,
    _ turn: ProcessorTurn
  ) {
    guard isFresh else { return }
    isFresh = false
    // A step is never in a block that is planned around breakpoints, and one over a breakpoint lasts one step: what was
    // planned stays for the run behind it.
    if !orders.steps { store.plan(around: PlannedBreakpoints(orders.allBreakpoints), turn) }
    // Pages that are watched now may be in the TLB.
    if orders.watchpoints != watchedBefore { translations.flush() }
    watchedBefore = orders.watchpoints
    passing = linear
    control.isAlone = orders.steps ? .forDebugger : .no
    control.isWatched = orders.steps && isWatching
  }

  /// Before an instruction that is run by itself.
  func stopBeforeStep(at linear: UInt64) throws(Interruption) {
    guard !orders.breakpoints.isEmpty || !orders.hardwareBreakpoints.isEmpty else { return }
    if let stop = stop(at: linear) { throw .stop(.debugger(stop)) }
  }

  /// At a planned exit.
  func meetBreakpoint(at linear: UInt64, in control: ControlState) throws(Interruption) {
    if let stop = stop(at: linear) { throw .stop(.debugger(stop)) }
    // Another page's, or the one that the run begins at.
    control.isAlone = .once
  }

  /// Behind an instruction that was run by itself or has used what is watched.
  func noteStep(in control: ControlState) {
    passing = nil
    if let hit {
      pending = .watchpoint(hit)
    } else if orders.steps {
      pending = .step
    }
    hit = nil
    endSolitude(in: control)
  }

  /// Behind an instruction that has completed and wants the run loop to look, as INT and HLT do.
  func endStep(in control: ControlState) throws(Interruption) {
    noteStep(in: control)
    if let reason = takePending() { throw .stop(.debugger(reason)) }
  }

  private func endSolitude(in control: ControlState) {
    guard control.isAlone == .once else { return }
    control.isAlone = .no
    control.isWatched = false
  }

  /// Before an exception is delivered: a fault has taken back what it has used.
  func beginException(in control: ControlState) {
    hit = nil
    passing = nil
    endSolitude(in: control)
  }

  /// After it was delivered: a step ends before the handler's first instruction, and the frame may lie on what is watched.
  func stopBehindException() -> DebuggerStop? {
    let used = hit
    hit = nil
    return takePending() ?? used.map { .watchpoint($0) } ?? (orders.steps ? .step : nil)
  }
}

/// Where blocks must end for a debugger's sake.
struct PlannedBreakpoints: Equatable {
  /// Linear addresses.
  let addresses: Set<UInt64>
  /// The same as offsets in pages, for code that may be anywhere.
  private let offsets: Set<UInt64>

  static let none = PlannedBreakpoints([])

  init(_ addresses: Set<UInt64>) {
    self.addresses = addresses
    offsets = Set(addresses.map { $0 & 4095 })
  }

  var isEmpty: Bool { addresses.isEmpty }

  /// Whether a block may not go on at an offset from its first byte.
  func holds(_ key: BlockKey, _ mode: CodeMode, offset: Int) -> Bool {
    let place = key.rip &+ UInt64(offset)
    if mode.isRelative { return offsets.contains(place & 4095) }
    return addresses.contains(mode.bits == .bits64 ? place : key.linear(place & 0xffff_ffff) & 0xffff_ffff)
  }
}
