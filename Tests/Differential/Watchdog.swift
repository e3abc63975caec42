import Glibc
import Synchronization
import TrivisorVMM

/// Ends a run that takes seconds of its thread's own time: on a busy host, a run that is right may take seconds of any clock.
final class Watchdog: Sendable {
  private let stop: any StopHandle
  /// Of the thread that runs code.
  private let clock: clockid_t
  private static let limit = 2.0
  /// The run's number, 0 between runs.
  private let current = Atomic<UInt64>(0)
  private let last = Atomic<UInt64>(0)
  private let hasEnded = Atomic(false)

  /// - Parameter stop: of the runs, which the calling thread makes.
  init(_ stop: any StopHandle) {
    self.stop = stop
    var clock = clockid_t()
    let error = pthread_getcpuclockid(pthread_self(), &clock)
    self.clock = error == 0 ? clock : CLOCK_MONOTONIC
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
    var (seen, since): (UInt64, Double) = (0, 0)
    while !hasEnded.load(ordering: .relaxed) {
      sleep(1)
      let (now, time) = (current.load(ordering: .relaxed), threadTime)
      if now != seen { (seen, since) = (now, time) }
      if now != 0, time - since >= Self.limit { stop.requestStop() }
    }
  }

  /// In seconds.
  private var threadTime: Double {
    var time = timespec()
    clock_gettime(clock, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
  }
}
