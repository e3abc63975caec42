import Synchronization
import VMM

/// How other threads reach the processor: to stop it, or because input has come. It may be in guest code, in a hypercall
/// or asleep.
final class Doorbell: StopHandle, InterruptController {
  /// How long guest code may take no notice of being interrupted: it can block signals by a forged frame.
  private static let patience: UInt64 = 1_000_000_000

  private struct State {
    var stopRequested = false
    var inputArrived = false
    var isInGuest = false
    /// When a stop was first asked for while guest code ran.
    var asked: UInt64?
    var space: GuestAddressSpace?
  }

  private let state = Monitor(State())

  func connect(_ space: GuestAddressSpace) { state.with { $0.space = space } }

  func requestStop() {
    let (space, kills) = state.with { state -> (GuestAddressSpace?, Bool) in
      state.stopRequested = true
      guard state.isInGuest else { return (state.space, false) }
      let now = monotonicNanoseconds()
      let asked = state.asked ?? now
      state.asked = asked
      return (state.space, now - asked > Self.patience)
    }
    if kills { space?.destroy() } else { space?.interrupt() }
  }

  func setLine(_ line: Int, asserted: Bool) {
    guard asserted else { return }
    let space = state.with { state in
      state.inputArrived = true
      return state.space
    }
    space?.interrupt()
  }

  func deliver(_ message: InterruptMessage) {}

  /// On the processor's thread: whether it was asked to stop; then the next run may go on.
  func takeStopRequest() -> Bool {
    state.with { state in
      defer { state.stopRequested = false }
      return state.stopRequested
    }
  }

  func takeInput() -> Bool {
    state.with { state in
      defer { state.inputArrived = false }
      return state.inputArrived
    }
  }

  /// Guest code is about to run, or has come back.
  func setInGuest(_ isInGuest: Bool) {
    state.with { state in
      state.isInGuest = isInGuest
      state.asked = nil
    }
  }

  /// Sleeps until somebody rings.
  func sleep() {
    let _: Bool = state.wait { $0.stopRequested || $0.inputArrived ? true : nil }
  }

  /// The address space is gone; its owner lets it go.
  func disconnect() { state.with { $0.space = nil } }
}
