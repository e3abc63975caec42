import VMM

/// Stops translated code by taking a page away from it that every block reads first.
final class RewritingStopHandle: StopHandle {
  private struct State {
    var block: StateBlock?
    var isRequested = false
  }

  private let state: Monitor<State>

  init(_ block: StateBlock) { state = Monitor(State(block: block)) }

  func requestStop() {
    state.with { state in
      guard let block = state.block else { return }
      if !state.isRequested { block.armPoll(true) }
      state.isRequested = true
    }
  }

  /// Whether there was a request, which is thereby answered.
  func takeRequest() -> Bool {
    state.with { state in
      guard state.isRequested else { return false }
      state.isRequested = false
      state.block?.armPoll(false)
      return true
    }
  }

  var isRequested: Bool { state.with { $0.isRequested } }

  /// Sleeps until there is a request, and answers it.
  func waitForRequest() {
    _ = state.wait { state -> Bool? in
      guard state.isRequested else { return nil }
      state.isRequested = false
      state.block?.armPoll(false)
      return true
    }
  }

  /// The processor is gone.
  func invalidate() { state.with { $0.block = nil } }
}
