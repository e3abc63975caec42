import Synchronization
import VMM

/// How other threads reach one virtual processor: to stop it, or because something is to be done before guest code goes
/// on. It may be in guest code, in a hypercall or asleep.
final class Doorbell: StopHandle {
  /// How long guest code may take no notice of being interrupted: it can block signals by a forged frame. On a host with
  /// far more work than processors an honest guest may need seconds to be scheduled at all.
  private static let patience: UInt64 = 5_000_000_000

  private struct State {
    var stopRequested = false
    var rung = false
    /// Where guest code runs at this moment.
    var space: GuestAddressSpace?
    /// When a stop was first asked for while guest code ran.
    var asked: UInt64?
    var usedForce = false
    var threadIsGone = false
  }

  private let state = Monitor(State())
  private let number: Int

  init(_ number: Int) { self.number = number }

  func requestStop() {
    let (space, kills) = state.with { state -> (GuestAddressSpace?, Bool) in
      state.stopRequested = true
      guard let space = state.space else { return (nil, false) }
      let now = monotonicNanoseconds()
      let asked = state.asked ?? now
      state.asked = asked
      if now - asked > Self.patience { state.usedForce = true }
      return (space, state.usedForce)
    }
    if kills { space?.destroy() } else { interrupt(space) }
  }

  private func interrupt(_ space: GuestAddressSpace?) {
    guard let space, !space.interrupt(number) else { return }
    state.with { $0.threadIsGone = true }
    space.destroy()
  }

  /// Whether the guest's process was killed because it had lost the processor's thread.
  var threadIsGone: Bool { state.with { $0.threadIsGone } }

  /// Whether the guest's process was killed because guest code took no notice.
  var usedForce: Bool { state.with { $0.usedForce } }

  /// Makes the processor look around before guest code goes on.
  func ring() {
    let space = state.with { state in
      state.rung = true
      return state.space
    }
    interrupt(space)
  }

  /// On the processor's thread: whether it was asked to stop; then the next run may go on.
  func takeStopRequest() -> Bool {
    state.with { state in
      defer { state.stopRequested = false }
      return state.stopRequested
    }
  }

  /// Before the processor looks around: what rings from now on is new.
  func silence() { state.with { $0.rung = false } }

  /// Guest code is about to run.
  /// - Returns: `false` when somebody has rung since `silence()`.
  func enter(_ space: GuestAddressSpace) -> Bool {
    state.with { state in
      guard !state.rung, !state.stopRequested else { return false }
      state.space = space
      state.asked = nil
      return true
    }
  }

  /// Guest code has come back.
  func leave() { state.with { $0.space = nil } }

  /// Sleeps until somebody rings, or until `deadline`.
  func sleep(until deadline: UInt64) {
    if deadline == .max {
      let _: Bool = state.wait { $0.stopRequested || $0.rung ? true : nil }
    } else {
      _ = state.wait(until: deadline) { $0.stopRequested || $0.rung ? true : nil }
    }
  }
}
