import TrivisorCLinux
import Glibc
import Synchronization
import SystemPackage

/// Calls back once after a time that was asked for: on a thread that is made when it is first needed.
///
/// A late or a needless call is possible; whoever is called looks at the clock.
public final class HostTimer: Sendable {
  private let alarm: Alarm?

  /// - Parameter fire: called on the timer's thread, with no lock held.
  public init(_ fire: @escaping @Sendable () -> Void) { alarm = Alarm(fire) }

  deinit { alarm?.end() }

  /// Replaces what was asked for before; `nil` is never. Without a host that gives threads and timers nothing happens.
  public func set(nanoseconds: Int64?) { alarm?.set(nanoseconds: nanoseconds) }
}

/// What a timer and its thread share.
private final class Alarm: Sendable {
  private let descriptor: Int32
  private let hasThread = Atomic<Bool>(false)
  private let hasEnded = Atomic<Bool>(false)
  private let fire: @Sendable () -> Void

  init?(_ fire: @escaping @Sendable () -> Void) {
    descriptor = timerfd_create(CLOCK_MONOTONIC, Int32(TFD_CLOEXEC))
    self.fire = fire
    if descriptor < 0 { return nil }
  }

  deinit {
    if descriptor >= 0 { close(descriptor) }
  }

  func set(nanoseconds: Int64?) {
    // A timer set to zero is a timer switched off.
    let delay = nanoseconds.map { max($0, 1) } ?? 0
    guard delay == 0 || startThread() else { return }
    var setting = itimerspec()
    setting.it_value.tv_sec = Int(delay / 1_000_000_000)
    setting.it_value.tv_nsec = Int(delay % 1_000_000_000)
    timerfd_settime(descriptor, 0, &setting, nil)
  }

  func end() {
    hasEnded.store(true, ordering: .releasing)
    if hasThread.load(ordering: .acquiring) { set(nanoseconds: 1) }
  }

  private func startThread() -> Bool {
    guard !hasThread.exchange(true, ordering: .acquiringAndReleasing) else { return true }
    let reference = Unmanaged.passRetained(self)
    var thread = pthread_t()
    guard pthread_create(&thread, nil, { Alarm.body($0) }, reference.toOpaque()) == 0 else {
      reference.release()
      hasThread.store(false, ordering: .releasing)
      return false
    }
    pthread_detach(thread)
    return true
  }

  private static func body(_ argument: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    guard let argument else { return nil }
    let alarm = Unmanaged<Alarm>.fromOpaque(argument).takeRetainedValue()
    var blocked = sigset_t()
    sigfillset(&blocked)
    pthread_sigmask(SIG_SETMASK, &blocked, nil)
    while true {
      var expirations: UInt64 = 0
      let count = read(alarm.descriptor, &expirations, 8)
      if alarm.hasEnded.load(ordering: .acquiring) { return nil }
      if count == 8 { alarm.fire() }
    }
  }
}
