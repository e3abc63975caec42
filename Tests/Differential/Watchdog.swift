import Glibc
import Synchronization
import TrivisorVMM

/// Ends a run that takes seconds.
final class Watchdog: Sendable {
  private let stop: any StopHandle
  /// The run's number, 0 between runs.
  private let current = Atomic<UInt64>(0)
  private let last = Atomic<UInt64>(0)
  private let hasEnded = Atomic(false)

  init(_ stop: any StopHandle) {
    self.stop = stop
    let reference = Unmanaged.passRetained(self)
    var thread = pthread_t()
    let body: @convention(c) (UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? = { argument in
      if let argument { Unmanaged<Watchdog>.fromOpaque(argument).takeRetainedValue().watch() }
      return nil
    }
    if pthread_create(&thread, nil, body, reference.toOpaque()) == 0 {
      pthread_detach(thread)
    } else {
      reference.release()
    }
  }

  func begin() { current.store(last.add(1, ordering: .relaxed).newValue, ordering: .relaxed) }
  func pause() { current.store(0, ordering: .relaxed) }
  func end() { hasEnded.store(true, ordering: .relaxed) }

  private func watch() {
    var blocked = sigset_t()
    sigfillset(&blocked)
    pthread_sigmask(SIG_SETMASK, &blocked, nil)
    var seen: UInt64 = 0
    while !hasEnded.load(ordering: .relaxed) {
      sleep(1)
      let now = current.load(ordering: .relaxed)
      if now != 0, now == seen { stop.requestStop() }
      seen = now
    }
  }
}
