import Glibc

/// Notices that a processor's thread was kept from running: its process was stopped for a while, or its host had no time for
/// it. A guest that is told so does not take the gap for a fault of its own, such as a soft lockup.
public struct LostTime: Sendable {
  /// Less than this, in nanoseconds, is a busy host's usual way, and far from what a guest's watchdog minds.
  public static let tolerated: UInt64 = 1_000_000_000
  /// How often it is worth asking the host how long the thread has run.
  private static let interval: UInt64 = 500_000_000

  /// On the monotonic clock, when it was last asked; 0 before the first run.
  private var since: UInt64 = 0
  /// How long the thread had run until then.
  private var ran: UInt64 = 0
  /// How long the guest has wanted to sleep since then.
  private var asleep: UInt64 = 0

  /// Nothing is lost.
  public init() {}

  /// This thread runs the processor from now on. The time since another one did is lost.
  public mutating func enter(now: UInt64) {
    if since == 0 { since = now }
    ran = Self.threadTime()
  }

  /// The guest was idle, and something woke it or its deadline came.
  /// - Parameters:
  ///   - began, ended: on the monotonic clock.
  ///   - deadline: when it was to be woken at the latest; what is beyond is lost.
  public mutating func slept(from began: UInt64, to ended: UInt64, deadline: UInt64) {
    let wanted = min(ended, max(deadline, began))
    if wanted > began { asleep &+= wanted &- began }
  }

  /// The guest has wanted nothing for so many nanoseconds.
  public mutating func rested(_ nanoseconds: UInt64) { asleep &+= nanoseconds }

  /// Whether much was lost since the last time that this was asked.
  /// - Parameter now: on the monotonic clock.
  public mutating func isLong(now: UInt64) -> Bool {
    guard now > since, now - since >= Self.interval else { return false }
    return isLong(now: now, threadTime: Self.threadTime())
  }

  /// The same for a thread that has run so many nanoseconds in all.
  mutating func isLong(now: UInt64, threadTime: UInt64) -> Bool {
    let elapsed = now &- since
    let accounted = (threadTime &- min(threadTime, ran)) &+ asleep
    (since, ran, asleep) = (now, threadTime, 0)
    return elapsed > accounted && elapsed - accounted > Self.tolerated
  }

  static func threadTime() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
    return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
  }
}
