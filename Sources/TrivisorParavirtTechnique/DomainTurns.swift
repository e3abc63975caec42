import Synchronization
import TrivisorTranslation
import TrivisorVMM

/// The translated processors of a domain take turns: one of them runs at a time, guest code and hypervisor, until it waits for
/// something, or until its slice of time is over and others want theirs. So nothing of the domain, and nothing that is known of its
/// page tables, changes while one of them runs; and a processor that waits costs nothing.
///
/// An event for a processor gives it the next turn, at once: whoever has sent it waits for an answer, most likely.
final class DomainTurns: Sendable {
  /// How long a turn lasts when others wait, in nanoseconds.
  static let slice: UInt64 = 2_000_000
  /// Who has waited for so many slices goes before those that an event hurries.
  private static let patience: UInt64 = 8

  private struct Waiter {
    let number: Int
    let since: UInt64
    var isHurried: Bool
  }

  private struct State {
    var holder: Int?
    /// Since when that one has it.
    var since: UInt64 = 0
    /// In the order in which they came.
    var waiters: [Waiter] = []
    /// The turn ends as soon as its holder looks.
    var mustEnd = false
  }

  private let state = Mutex(State())
  /// By processor: it is its turn.
  private let bells: [Monitor<Bool>]
  private let handles: [TranslationStopHandle]

  /// - Parameter handles: by processor: how to bring it back from guest code.
  init(_ handles: [TranslationStopHandle]) {
    self.handles = handles
    bells = handles.map { _ in Monitor(false) }
  }

  /// Waits for a processor's turn, on its own thread.
  /// - Parameter isHurried: an event has come for it.
  func begin(_ number: Int, isHurried: Bool = false) {
    let now = monotonicNanoseconds()
    let holder: Int? = state.withLock { state in
      guard let holder = state.holder else {
        (state.holder, state.since, state.mustEnd) = (number, now, false)
        return nil
      }
      state.waiters.append(Waiter(number: number, since: now, isHurried: isHurried))
      if isHurried { state.mustEnd = true }
      return holder
    }
    guard let holder else { return }
    if isHurried { handles[holder].kickFromOutside() }
    while true {
      let isMine = bells[number].wait(until: monotonicNanoseconds() &+ Self.slice) { isMine -> Bool? in
        guard isMine else { return nil }
        isMine = false
        return true
      }
      if isMine ?? false { return }
      remind()
    }
  }

  /// The holder is brought back from guest code when its slice is over.
  private func remind() {
    let late = state.withLock { state -> Int? in
      guard let holder = state.holder, isOver(state) else { return nil }
      return holder
    }
    if let late { handles[late].kickFromOutside() }
  }

  private func isOver(_ state: State) -> Bool {
    !state.waiters.isEmpty && (state.mustEnd || monotonicNanoseconds() &- state.since >= Self.slice)
  }

  /// Whether the processor whose turn it is should let others have theirs.
  var isOver: Bool { state.withLock { isOver($0) } }

  /// Ends the turn of whoever has it; the next one's begins.
  func end() {
    let now = monotonicNanoseconds()
    let next = state.withLock { state -> Int? in
      (state.since, state.mustEnd) = (now, false)
      guard let first = state.waiters.first else {
        state.holder = nil
        return nil
      }
      let isLate = now &- first.since > Self.slice &* Self.patience
      let position = isLate ? 0 : state.waiters.firstIndex { $0.isHurried } ?? 0
      let next = state.waiters.remove(at: position).number
      state.holder = next
      return next
    }
    if let next { bells[next].with { $0 = true } }
  }

  /// Something has come for a processor: if it waits for its turn, that is the next one.
  func hurry(_ number: Int) {
    let holder = state.withLock { state -> Int? in
      guard let position = state.waiters.firstIndex(where: { $0.number == number }) else { return nil }
      state.waiters[position].isHurried = true
      state.mustEnd = true
      return state.holder
    }
    if let holder { handles[holder].kick() }
  }

  /// Does something in a turn of a processor that does not run, on any thread.
  func within<Result>(_ number: Int, _ body: () throws -> Result) rethrows -> Result {
    begin(number)
    defer { end() }
    return try body()
  }
}
