import Glibc
import Synchronization

/// Runs blocking work beside a test: the pool that tests run on has as few threads as the host has processors.
final class OwnThread<Result: Sendable>: Sendable {
  private let body: @Sendable () -> Result
  private let result = Mutex<Result?>(nil)
  private let thread = Mutex<pthread_t?>(nil)

  init(_ body: @escaping @Sendable () -> Result) {
    self.body = body
    var identifier = pthread_t()
    let argument = Unmanaged<AnyObject>.passRetained(self)
    let error = pthread_create(&identifier, nil, { runOwnThread($0) }, argument.toOpaque())
    precondition(error == 0)
    let started = identifier
    thread.withLock { $0 = started }
  }

  /// Waits until the work is done.
  @discardableResult
  func join() -> Result? {
    if let identifier = thread.withLock({ $0.take() }) { pthread_join(identifier, nil) }
    return result.withLock { $0 }
  }
}

protocol Runnable: AnyObject {
  func run()
}

extension OwnThread: Runnable {
  func run() {
    let value = body()
    result.withLock { $0 = value }
  }
}

private func runOwnThread(_ argument: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
  guard let argument else { return nil }
  let object = Unmanaged<AnyObject>.fromOpaque(argument).takeRetainedValue()
  (object as? any Runnable)?.run()
  return nil
}
