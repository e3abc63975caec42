import Synchronization

/// What waits for one processor, readable without a lock.
final class ProcessorSignals: Sendable {
  /// One bit a kind of event.
  typealias Pending = ProcessorInterrupts.Pending

  private let bits = Atomic<UInt32>(0)
  private let nextDeadline = Atomic<UInt64>(.max)
  private let wake = Mutex<Wake?>(nil)

  /// A bare function in the mutex would be wrapped anew at each access.
  private struct Wake: Sendable {
    let call: @Sendable () -> Void
  }

  var pending: Pending { Pending(rawValue: bits.load(ordering: .acquiring)) }
  var deadline: UInt64 { nextDeadline.load(ordering: .acquiring) }

  func connect(_ wake: (@Sendable () -> Void)?) {
    self.wake.withLock { $0 = wake.map(Wake.init) }
    if !pending.isEmpty { wake?() }
  }

  /// Only with the chips' lock held, so that no two updates cross.
  func update(_ new: Pending, deadline: UInt64) {
    var new = new
    let old = pending
    if deadline < self.deadline { new.insert(.deadline) }
    if old.contains(.deadline) { new.insert(.deadline) }
    nextDeadline.store(deadline, ordering: .releasing)
    bits.store(new.rawValue, ordering: .sequentiallyConsistent)
    if !new.subtracting(old).isEmpty { wake.withLock { $0 }?.call() }
  }

  /// The processor has seen that its deadline is earlier than it was.
  func acceptDeadline() { bits.bitwiseAnd(~Pending.deadline.rawValue, ordering: .sequentiallyConsistent) }
}
