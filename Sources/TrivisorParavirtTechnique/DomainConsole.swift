import Synchronization
import TrivisorVMM
import TrivisorXenDomain

/// The console of a domain that is still to be made: input waits with the host until there is one.
final class DomainConsole: ConsoleInput {
  private struct State {
    var sink: any SerialSink = NoSink()
    var console: XenConsole?
    var whenRoom: (@Sendable () -> Void)?
  }

  private let state = Mutex(State())

  /// Where output goes.
  var sink: any SerialSink {
    get { state.withLock { $0.sink } }
    set { state.withLock { $0.sink = newValue } }
  }

  /// The domain is there.
  func connect(_ console: XenConsole) {
    let hook = state.withLock { state in
      state.console = console
      return state.whenRoom
    }
    guard let hook else { return }
    console.whenRoomForInput(hook)
    hook()
  }

  var isListening: Bool { true }

  func receive(_ bytes: UnsafeRawBufferPointer) -> Int {
    state.withLock { $0.console }?.receive(bytes) ?? 0
  }

  func whenRoomForInput(_ hook: @escaping @Sendable () -> Void) {
    let console = state.withLock { state in
      state.whenRoom = hook
      return state.console
    }
    console?.whenRoomForInput(hook)
  }
}

/// Drops everything: a domain whose owner wants no output.
private final class NoSink: SerialSink {
  func write(_ bytes: UnsafeRawBufferPointer) {}
  func finish() {}
  func abandon() {}
}
