import Synchronization

/// Wants to know what devices store to guest memory: an engine that keeps something made of the memory's contents, such as
/// translated code.
public protocol MemoryWatcher: Sendable {
  /// Called after the bytes were stored and before the guest can learn of it, on the device's thread.
  func deviceStored(at host: UnsafeMutableRawPointer, count: Int)
}

/// Where devices report their stores.
public final class MemoryWatch: Sendable {
  private let isWatched = Atomic<Bool>(false)
  private let watcher = Mutex<(any MemoryWatcher)?>(nil)

  init() {}

  /// Whether anybody wants to know: costs one load.
  public var isActive: Bool { isWatched.load(ordering: .acquiring) }

  /// Replaces the watcher.
  public func set(_ new: (any MemoryWatcher)?) {
    watcher.withLock { $0 = new }
    isWatched.store(new != nil, ordering: .releasing)
  }

  /// To be called by a device that has stored to guest memory, for each contiguous piece.
  public func stored(at host: UnsafeMutableRawPointer, count: Int) {
    guard isActive, let watcher = watcher.withLock({ $0 }) else { return }
    watcher.deviceStored(at: host, count: count)
  }
}
