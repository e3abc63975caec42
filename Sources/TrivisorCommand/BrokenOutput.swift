import Synchronization

/// Tells the machine that nobody takes its output any more, even if that is found out before there is a machine.
final class BrokenOutput: Sendable {
  private struct State {
    var isBroken = false
    var whenBroken: (@Sendable () -> Void)?
  }

  private let state = Mutex(State())

  /// The output can't be delivered.
  func tell() {
    let action = state.withLock { state in
      state.isBroken = true
      return state.whenBroken
    }
    action?()
  }

  /// What to do about it.
  func connect(_ action: @escaping @Sendable () -> Void) {
    let isBroken = state.withLock { state in
      state.whenBroken = action
      return state.isBroken
    }
    if isBroken { action() }
  }
}
