import Synchronization
import VMM

/// The hypervisor's end of a domain's console: what the domain writes goes to a sink, and what is typed to the domain.
public final class XenConsole: ConsoleInput, @unchecked Sendable {
  // Unchecked: the ring is memory that the domain writes, too; its positions are atomic, and its input side is used with
  // the state's lock held.

  private struct State {
    var whenRoom: (@Sendable () -> Void)?
    var doorbell: (any DomainDoorbell)?
  }

  private let ring: ConsoleRing
  private let sink: any SerialSink
  private let state = Mutex(State())
  private let hasInput = Atomic<Bool>(false)
  /// The host has bytes that were not taken.
  private let hasRefused = Atomic<Bool>(false)

  init(_ ring: ConsoleRing, sink: any SerialSink) {
    self.ring = ring
    self.sink = sink
  }

  /// Whom to tell of input.
  func connect(_ doorbell: any DomainDoorbell) { state.withLock { $0.doorbell = doorbell } }

  /// Takes what the domain has written, with the domain's lock held.
  /// - Returns: whether that was anything.
  @discardableResult
  func drain() -> Bool {
    var hasMoved = false
    ring.drain { bytes in
      hasMoved = true
      sink.write(bytes)
    }
    return hasMoved
  }

  /// Whether input has come since it was asked last.
  func takeInput() -> Bool { hasInput.exchange(false, ordering: .acquiringAndReleasing) }

  /// Whether `takeInput` would say so.
  var hasUntoldInput: Bool { hasInput.load(ordering: .acquiring) }

  /// The ring has input that the domain is to be told of.
  func noteInput() { hasInput.store(true, ordering: .releasing) }

  /// Tells the host when the domain has made room for what was refused.
  func offerRoom() {
    guard hasRefused.load(ordering: .relaxed), ring.room > 0 else { return }
    let hook = state.withLock { state in
      hasRefused.store(false, ordering: .relaxed)
      return state.whenRoom
    }
    hook?()
  }

  /// Always: whether anybody reads its ring the hypervisor is not told.
  public var isListening: Bool { true }

  /// Puts input into the ring, from any thread.
  public func receive(_ bytes: UnsafeRawBufferPointer) -> Int {
    let (count, doorbell) = state.withLock { state in
      let count = ring.fill(bytes)
      if count < bytes.count { hasRefused.store(true, ordering: .relaxed) }
      return (count, state.doorbell)
    }
    if count > 0 {
      noteInput()
      doorbell?.ring()
    }
    return count
  }

  /// On the thread of processor 0.
  public func whenRoomForInput(_ hook: @escaping @Sendable () -> Void) { state.withLock { $0.whenRoom = hook } }
}
