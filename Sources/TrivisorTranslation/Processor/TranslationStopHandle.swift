// How other threads reach a processor that runs translated code: they take a page away from it that every block reads
// first. The fault brings it back between two instructions.
//
// Two kinds of callers want it back: whoever asks the machine to stop, and the interrupt chips, when something waits for
// the processor. The processor's own thread does both too, from a device in the middle of a call-out; it looks by itself
// afterwards, so the page stays.

import Glibc
import Synchronization
import TrivisorVMM

/// Stops translated code.
package final class TranslationStopHandle: StopHandle {
  private struct State {
    var block: StateBlock?
    var isRequested = false
    /// The chips have something.
    var isKicked = false
    var isArmed = false
  }

  /// Why a processor that slept is awake.
  package enum Awakening {
    case request, kick, time
  }

  private let state: Monitor<State>
  /// `isRequested`, to be looked at without the lock.
  private let request = Atomic<Bool>(false)
  /// `isKicked`, to be looked at without the lock.
  private let attention = Atomic<Bool>(false)
  private let owner = Atomic<UInt>(0)

  init(_ block: StateBlock) { state = Monitor(State(block: block)) }

  /// Must be called on the thread that runs the processor, before it does.
  func adoptThread() { owner.store(UInt(pthread_self()), ordering: .relaxed) }

  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  package func requestStop() {
    state.with { state in
      guard let block = state.block else { return }
      Self.arm(&state, block)
      state.isRequested = true
      request.store(true, ordering: .releasing)
    }
  }

  /// Something waits for the processor: it is to look between two instructions.
  package func kick() {
    guard owner.load(ordering: .relaxed) != UInt(pthread_self()) else { return }
    kickFromOutside()
  }

  /// As `kick`, from whatever thread.
  package func kickFromOutside() {
    state.with { state in
      guard let block = state.block else { return }
      Self.arm(&state, block)
      state.isKicked = true
      attention.store(true, ordering: .releasing)
    }
  }

  private static func arm(_ state: inout State, _ block: StateBlock) {
    if !state.isArmed { block.armPoll(true) }
    state.isArmed = true
  }

  private func disarm(_ state: inout State) {
    if state.isArmed { state.block?.armPoll(false) }
    state.isArmed = false
    state.isKicked = false
    attention.store(false, ordering: .releasing)
  }

  /// Before translated code runs: gives it its page back.
  /// - Returns: whether there was a request to stop, which is thereby answered.
  package func settle() -> Bool {
    state.with { state in
      disarm(&state)
      defer { state.isRequested = false }
      request.store(false, ordering: .releasing)
      return state.isRequested
    }
  }

  /// Whether somebody wants it to stop.
  package var isRequested: Bool { request.load(ordering: .acquiring) }

  /// Somebody wants the processor, to stop or to look at what its chips have.
  var isWanted: Bool { isRequested || attention.load(ordering: .acquiring) }

  /// Sleeps until there is a request (which is not answered by it) or a kick, or until `deadline` on the monotonic clock.
  func sleep(until deadline: UInt64) -> Awakening {
    let awakening = state.wait(until: deadline) { state -> Awakening? in
      if state.isRequested { return .request }
      guard state.isKicked else { return nil }
      disarm(&state)
      return .kick
    }
    return awakening ?? .time
  }

  /// The processor is gone.
  func invalidate() { state.with { $0.block = nil } }
}
