import Synchronization
import TrivisorVMM
import TrivisorXenDomain

/// Where guest code of virtual processors runs, and can be made to come back.
protocol Interruptible: AnyObject, Sendable {
  func interrupt(_ number: Int)
}

extension GuestAddressSpace: Interruptible {}

/// How other threads reach one virtual processor: to stop it, or because something is to be done before guest code goes
/// on. It may be in guest code, in a hypercall or asleep.
final class Doorbell: StopHandle, DomainDoorbell {
  private struct State {
    var stopRequested = false
    var rung = false
    /// Told when somebody rings or asks it to stop, as it may wait for its turn.
    var whenRung: (@Sendable () -> Void)?
    /// Where guest code runs at this moment.
    var space: (any Interruptible)?
  }

  private let state = Monitor(State())
  private let number: Int

  init(_ number: Int) { self.number = number }

  /// - Parameter hook: runs on the thread that rings, or that asks it to stop.
  func whenRung(_ hook: @escaping @Sendable () -> Void) { state.with { $0.whenRung = hook } }

  func requestStop() {
    let (space, hook) = state.with { state in
      state.stopRequested = true
      return (state.space, state.whenRung)
    }
    interrupt(space)
    hook?()
  }

  private func interrupt(_ space: (any Interruptible)?) { space?.interrupt(number) }

  /// Makes the processor look around before guest code goes on.
  func ring() {
    let (space, hook) = state.with { state in
      state.rung = true
      return (state.space, state.whenRung)
    }
    interrupt(space)
    hook?()
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
  func enter(_ space: any Interruptible) -> Bool {
    state.with { state in
      guard !state.rung, !state.stopRequested else { return false }
      state.space = space
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
