// One processor after the other, in an order that a seed determines.
//
// Each processor has a thread of its own, because translated code is left by signals and has its state in the thread; all but one of
// them wait for a semaphore. The one that goes on may be changed wherever the engine asks (`ProcessorSchedule`), and between any two
// instructions of translated code (`CodeWalk`).

import Glibc
import TrivisorCSingleStep
import TrivisorTranslation
import TrivisorVMM

/// The order of one run.
final class Scheduler: ProcessorSchedule, @unchecked Sendable {
  // Unchecked: only the thread that goes on touches it; the semaphores order that.

  /// How often something may happen, one time in so many; 0: never.
  struct Rates {
    /// Another processor goes on, where the engine asks.
    var change: UInt64 = 2
    /// Translated code is interrupted between two of its instructions.
    var step: UInt64 = 4
    /// Or stopped at its next look.
    var stop: UInt64 = 8
    /// The translation cache is emptied, when a block is to be made.
    var full: UInt64 = 0
  }

  private enum State {
    case ready
    case wantsLock
    case waits(RendezvousCondition)
    case asleep(() -> Bool)
    case done
  }

  private(set) var random: RandomNumbers
  private let rates: Rates
  private var states: [State]
  private let semaphores: UnsafeMutablePointer<sem_t>
  /// Posted when all are done, or something is wrong.
  private let ended: UnsafeMutablePointer<sem_t>
  private var lockedBy = -1
  /// Before that, one thread makes everything.
  private var isOn = false
  private var stops: [any StopHandle] = []
  /// What comes of who goes on, one thing after the other.
  private(set) var fingerprint: UInt64 = 0xcbf2_9ce4_8422_2325
  private(set) var changes: UInt64 = 0
  private(set) var interruptions: UInt64 = 0
  /// So often may it be asked who goes on.
  private var budget: UInt64 = 400_000
  /// Why no processor goes on.
  private(set) var problem: String?
  private let isTold: Bool

  /// - Parameter isTold: each change of who goes on is printed.
  init(_ random: RandomNumbers, processors count: Int, rates: Rates, isTold: Bool) {
    self.random = random
    self.rates = rates
    self.isTold = isTold
    states = Array(repeating: .ready, count: count)
    semaphores = .allocate(capacity: count)
    for number in 0..<count { sem_init(semaphores + number, 0, 0) }
    ended = .allocate(capacity: 1)
    sem_init(ended, 0, 0)
  }

  deinit {
    for number in states.indices { sem_destroy(semaphores + number) }
    semaphores.deallocate()
    sem_destroy(ended)
    ended.deallocate()
  }

  // MARK: The run

  /// Lets the threads go, which have called or will call `begin`, until all have called `end`.
  /// - Returns: whether they have; otherwise they wait for ever.
  func run(_ stops: [any StopHandle]) -> Bool {
    self.stops = stops
    css_reset()
    isOn = true
    pass(from: nil, "begins")
    wait(ended)
    isOn = false
    return problem == nil
  }

  /// On a processor's thread, before anything else.
  func begin(_ processor: Int) { wait(semaphores + processor) }

  /// On its thread, when it will do nothing more.
  func end(_ processor: Int) {
    states[processor] = .done
    pass(from: processor, "has ended")
  }

  private func wait(_ semaphore: UnsafeMutablePointer<sem_t>) {
    while sem_wait(semaphore) != 0 {}
  }

  private func canGoOn(_ state: State) -> Bool {
    switch state {
    case .ready: true
    case .wantsLock: lockedBy < 0
    case .waits, .done: false
    case .asleep(let isAwake): isAwake()
    }
  }

  /// Chooses who goes on, and comes back when it is this one's turn again.
  private func pass(from processor: Int?, _ place: String) {
    if problem != nil { return hold() }
    let candidates = states.indices.filter { canGoOn(states[$0]) }
    budget -= 1
    guard !candidates.isEmpty, budget > 0 else { return finish(processor) }
    let next = candidates[random.below(candidates.count)]
    fingerprint = (fingerprint ^ UInt64(next)) &* 0x100_0000_01b3
    guard next != processor else { return }
    changes += 1
    if css_is_armed() != 0 { problem = "translated code is left for a while, with breakpoints in it" }
    if isTold { print("\(changes): \(processor.map { "\($0) \(place), " } ?? "")\(next) goes on") }
    let isDone =
      if let processor, case .done = states[processor] { true } else { false }
    sem_post(semaphores + next)
    if let processor, !isDone { wait(semaphores + processor) }
  }

  private func finish(_ processor: Int?) {
    let left = states.indices.filter { if case .done = states[$0] { false } else { true } }
    guard !left.isEmpty else {
      sem_post(ended)
      return
    }
    problem =
      budget == 0
      ? "it does not end"
      : "nobody can go on: " + left.map { "\($0) \(Self.describe(states[$0]))" }.joined(separator: ", ")
    sem_post(ended)
    if let processor, case .done = states[processor] { return }
    hold()
  }

  /// What has gone wrong can't be taken back.
  private func hold() { while true { pause() } }

  private static func describe(_ state: State) -> String {
    switch state {
    case .ready: "is ready"
    case .wantsLock: "wants the lock"
    case .waits(.hasArrived): "waits for the others' arrival"
    case .waits(.worldGoesOn): "waits for the world"
    case .asleep: "sleeps"
    case .done: "is done"
    }
  }

  private func isDue(_ rate: UInt64) -> Bool { rate != 0 && random.below(Int(rate)) == 0 }

  private func maybeChange(_ processor: Int, _ place: String) {
    if isDue(rates.change) { pass(from: processor, place) }
  }

  // MARK: ProcessorSchedule

  func lock(_ processor: Int) {
    guard isOn else { return }
    maybeChange(processor, "comes to the lock")
    take(processor)
  }

  private func take(_ processor: Int) {
    while lockedBy >= 0 {
      states[processor] = .wantsLock
      pass(from: processor, "waits for the lock")
    }
    states[processor] = .ready
    lockedBy = processor
  }

  func unlock(_ processor: Int) {
    guard isOn else { return }
    lockedBy = -1
    maybeChange(processor, "has given the lock back")
  }

  func wait(_ processor: Int, for condition: RendezvousCondition) {
    guard isOn else { return }
    lockedBy = -1
    states[processor] = .waits(condition)
    pass(from: processor, "waits")
    take(processor)
  }

  func announce(_ condition: RendezvousCondition) {
    for number in states.indices {
      if case .waits(let other) = states[number], other == condition { states[number] = .wantsLock }
    }
  }

  func runsCode(_ processor: Int) {
    guard isOn else { return }
    if isDue(rates.stop) { stops[processor].requestStop() }
    guard isDue(rates.step) else { return }
    // Many a thing happens in the first instructions: on the way into a block.
    let count = random.below(4) != 0 ? 1 + random.below(12) : 1 + random.below(80)
    let context = Unmanaged.passUnretained(threads[processor]).toOpaque()
    let error = css_begin(context, UInt32(count))
    if error != 0 { problem = "the host lets no translated code be written to: \(String(cString: strerror(error)))" }
  }

  func ranCode(_ processor: Int) {
    guard isOn else { return }
    css_end()
  }

  func emptiesCache(_ processor: Int) -> Bool { isOn && isDue(rates.full) }

  func sleeps(_ processor: Int, until isAwake: () -> Bool) {
    guard isOn else { return }
    withoutActuallyEscaping(isAwake) { isAwake in
      guard !isAwake() else { return }
      states[processor] = .asleep(isAwake)
      pass(from: processor, "sleeps")
      states[processor] = .ready
    }
  }

  // MARK: Between two instructions

  /// What the handler is given.
  private final class Thread {
    unowned let scheduler: Scheduler
    let processor: Int
    init(_ scheduler: Scheduler, _ processor: Int) { (self.scheduler, self.processor) = (scheduler, processor) }
  }
  private lazy var threads = states.indices.map { Thread(self, $0) }

  /// Once a process.
  static func install() -> Int32 {
    css_install(
      { context in
        let thread = Unmanaged<Thread>.fromOpaque(context).takeUnretainedValue()
        return thread.scheduler.interrupt(thread.processor)
      },
      { address, count, places, capacity in
        var walk = CodeWalk(UnsafeMutableBufferPointer(start: places, count: Int(capacity)))
        return walk.run(from: address, count)
      })
  }

  private func interrupt(_ processor: Int) -> UInt32 {
    interruptions += 1
    pass(from: processor, "is interrupted")
    // Sometimes one instruction more, and another change.
    return random.below(3) == 0 ? UInt32(1 + random.below(8)) : 0
  }
}
