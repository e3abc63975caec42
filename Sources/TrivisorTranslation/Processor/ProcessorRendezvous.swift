// Several processors, and what they share.
//
// The machine has one translation cache. Translated code of all processors runs at the same time; what Swift does with the
// cache, the tables of code pages and the modes' numbers is done by one processor at a time:
//
//     enter ─▶ Swift ─ release ▶ translated code, or a device ─ resume ▶ Swift ─▶ … ─▶ leave (it sleeps, or stands)
//
// Beside the others' translated code Swift may add a block, link blocks and drop them. Other processors may be anywhere
// meanwhile, so each such step is one store that is right before and after for whoever comes by (`CodeCache.patch`,
// `Linker`): a processor that is in a dropped block runs it to its end, as a processor may run instructions that it fetched
// before they were changed.
//
// For the rest the world stops: nobody else is in translated code, nor between two pieces of an instruction. That is for
//
// - a page that becomes code while others may store to it unseen: their entries for writing go before its bytes are read,
//   because a store that comes later would be missed for ever;
// - memory that is used anew: the cache that is full, modes' numbers that begin anew;
// - a link to another physical page than before: somebody may be between the comparison and the jump;
// - a read-modify-write on two pages, which no host instruction makes whole.
//
// A processor can be stopped where it holds no host address and no place in translated code: at a safe point, which is where it
// looks for its next block, sleeps, or stands. Whoever stops the world takes the others' poll pages away and waits until
// each is there. Two at once take turns, and the second counts as being at a safe point while it waits: so it must look
// again at all that it knew.
//
// Lock order: the machine's lock, then a stop handle's, or the chips'. A device never asks for the machine's.

import Glibc
import TrivisorCWorldSwitch
import TrivisorVMM

/// Who of a machine's processors is where.
package final class ProcessorRendezvous: @unchecked Sendable {
  // Unchecked: everything is touched with `mutex` held only.

  /// So many processors have a bit in `CodePages`.
  package static let processorLimit = 16

  private let mutex: UnsafeMutablePointer<pthread_mutex_t>
  /// For how long a processor looks whether it has its turn before it sleeps; nanoseconds.
  private static let patience: UInt64 = 40_000
  /// A processor has come to a safe point.
  private let arrived: UnsafeMutablePointer<pthread_cond_t>
  /// The world goes on.
  private let resumed: UnsafeMutablePointer<pthread_cond_t>
  /// By index.
  private var handles: [TranslationStopHandle?]
  /// A bit for each processor that is at no safe point.
  private var inside: UInt32 = 0
  /// Who has stopped the world, or wants to; -1: nobody.
  private var owner = -1
  /// How often the owner has stopped it, one stop within another.
  private var depth = 0
  /// How often the world stopped, and for how long somebody waited for the others, in nanoseconds.
  private var stops: UInt64 = 0
  private var waited: UInt64 = 0
  /// How often a processor did not have its turn at once, and for how long they waited, in nanoseconds.
  private var turnsAwaited: UInt64 = 0
  private var awaited: UInt64 = 0
  /// Who says which processor goes on, in tests.
  private let schedule: (any ProcessorSchedule)?

  /// - Parameters:
  ///   - count: of processors: at most `processorLimit`.
  ///   - schedule: in tests, who says which processor goes on.
  package init(processorCount count: Int, schedule: (any ProcessorSchedule)? = nil) {
    self.schedule = schedule
    handles = Array(repeating: nil, count: count)
    mutex = .allocate(capacity: 1)
    arrived = .allocate(capacity: 1)
    resumed = .allocate(capacity: 1)
    pthread_mutex_init(mutex, nil)
    pthread_cond_init(arrived, nil)
    pthread_cond_init(resumed, nil)
  }

  deinit {
    pthread_cond_destroy(arrived)
    pthread_cond_destroy(resumed)
    pthread_mutex_destroy(mutex)
    arrived.deallocate()
    resumed.deallocate()
    mutex.deallocate()
  }

  /// Makes a processor one that the others know; while the lock is held.
  func join(_ index: Int, _ handle: TranslationStopHandle?) { handles[index] = handle }

  fileprivate var tally: RendezvousTally {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    return RendezvousTally(
      stops: stops, nanosecondsStopping: waited, turnsAwaited: turnsAwaited, nanosecondsAwaitingTurns: awaited)
  }

  fileprivate func enter(_ index: Int) {
    lock(index)
    while owner >= 0 { wait(index, for: .worldGoesOn) }
    inside |= 1 << UInt32(index)
  }

  fileprivate func leave(_ index: Int) {
    goOutside(index)
    unlock(index)
  }

  @inline(__always)
  fileprivate func lock(_ index: Int) {
    if let schedule { return schedule.lock(index) }
    if pthread_mutex_trylock(mutex) != 0 { waitForTurn() }
  }

  /// A turn in Swift takes a microsecond or two, and to sleep and be woken takes many: so it spins for a while first.
  private func waitForTurn() {
    let began = monotonicNanoseconds()
    var isMine = false
    while !isMine, monotonicNanoseconds() &- began < Self.patience {
      // Each look takes the lock's cache line from whoever holds it.
      for _ in 0..<4 { cws_pause() }
      isMine = pthread_mutex_trylock(mutex) == 0
    }
    if !isMine { pthread_mutex_lock(mutex) }
    turnsAwaited &+= 1
    awaited &+= monotonicNanoseconds() &- began
  }

  @inline(__always)
  fileprivate func unlock(_ index: Int) {
    if let schedule { return schedule.unlock(index) }
    pthread_mutex_unlock(mutex)
  }

  fileprivate var isScheduled: Bool { schedule != nil }

  @inline(__always)
  fileprivate func runsCode(_ index: Int) { schedule?.runsCode(index) }

  @inline(__always)
  fileprivate func ranCode(_ index: Int) { schedule?.ranCode(index) }

  fileprivate func emptiesCache(_ index: Int) -> Bool { schedule?.emptiesCache(index) ?? false }

  fileprivate func sleeps(_ index: Int, _ isAwake: () -> Bool) { schedule?.sleeps(index, until: isAwake) }

  private func wait(_ index: Int, for condition: RendezvousCondition) {
    if let schedule { return schedule.wait(index, for: condition) }
    pthread_cond_wait(condition == .worldGoesOn ? resumed : arrived, mutex)
  }

  private func announce(_ condition: RendezvousCondition) {
    if let schedule { return schedule.announce(condition) }
    pthread_cond_broadcast(condition == .worldGoesOn ? resumed : arrived)
  }

  private func goOutside(_ index: Int) {
    inside &= ~(1 << UInt32(index))
    if owner >= 0 { announce(.hasArrived) }
  }

  @inline(__always)
  fileprivate func safePoint(_ index: Int) {
    if owner >= 0, owner != index { waitOutside(index) }
  }

  private func waitOutside(_ index: Int) {
    goOutside(index)
    while owner >= 0 { wait(index, for: .worldGoesOn) }
    inside |= 1 << UInt32(index)
  }

  fileprivate func stopWorld(_ index: Int) {
    safePoint(index)
    depth += 1
    if owner == index { return }
    owner = index
    stops &+= 1
    let others = inside & ~(1 << UInt32(index))
    guard others != 0 else { return }
    for (number, handle) in handles.enumerated() where others >> UInt32(number) & 1 != 0 { handle?.kickFromOutside() }
    let began = monotonicNanoseconds()
    while inside & ~(1 << UInt32(index)) != 0 { wait(index, for: .hasArrived) }
    waited &+= monotonicNanoseconds() &- began
  }

  fileprivate func startWorld() {
    depth -= 1
    guard depth == 0 else { return }
    owner = -1
    announce(.worldGoesOn)
  }
}

/// What the processors of a machine have waited for each other; all of them together.
package struct RendezvousTally: Sendable {
  /// How often the world stopped, and for how long somebody waited for the others then.
  package var stops: UInt64 = 0
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  package var nanosecondsStopping: UInt64 = 0
  /// How often a processor did not have its turn at once, and for how long it waited then.
  package var turnsAwaited: UInt64 = 0
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  package var nanosecondsAwaitingTurns: UInt64 = 0
}

/// A processor's part in the rendezvous of its machine; of a machine with one processor, nothing.
package struct ProcessorTurn {
  private let rendezvous: ProcessorRendezvous?
  /// The processor's.
  package let index: Int

  /// - Parameters:
  ///   - rendezvous: of the machine, if it has several processors.
  ///   - index: the processor's.
  package init(_ rendezvous: ProcessorRendezvous? = nil, index: Int = 0) {
    self.rendezvous = rendezvous
    self.index = index
  }

  /// Whether there are others.
  package var isShared: Bool { rendezvous != nil }

  /// What the machine's processors have waited for each other.
  package var tally: RendezvousTally { rendezvous?.tally ?? RendezvousTally() }

  func join(_ handle: TranslationStopHandle?) { rendezvous?.join(index, handle) }

  /// From a safe point: waits for its turn in Swift.
  package func enter() { rendezvous?.enter(index) }

  /// To a safe point, and lets others have their turn.
  package func leave() { rendezvous?.leave(index) }

  /// Lets others have their turn, without being at a safe point.
  @inline(__always)
  func release() { rendezvous?.unlock(index) }

  /// Waits for the turn that it has released.
  @inline(__always)
  func resume() { rendezvous?.lock(index) }

  /// Its translated code runs between the two.
  @inline(__always)
  func runsCode() { rendezvous?.runsCode(index) }
  @inline(__always)
  func ranCode() { rendezvous?.ranCode(index) }

  /// Whether the translation cache counts as full, for a test's sake.
  var emptiesCache: Bool { rendezvous?.emptiesCache(index) ?? false }

  /// It is about to sleep, until `isAwake` says so.
  func sleeps(until isAwake: () -> Bool) { rendezvous?.sleeps(index, isAwake) }

  /// Whether a processor's thread may sleep by itself, rather than when a test's schedule says.
  var mayRest: Bool { rendezvous?.isScheduled == false }

  /// Waits while another one has stopped the world.
  @inline(__always)
  func safePoint() { rendezvous?.safePoint(index) }

  /// At a safe point: brings the others to theirs, where they stay until `startWorld`. Another one may have stopped it before: all
  /// that was known must be looked at again.
  func stopWorld() { rendezvous?.stopWorld(index) }

  func startWorld() { rendezvous?.startWorld() }
}
