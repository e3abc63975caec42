/// For how long a processor's thread wanted to run and could not: the host ran something else, or another processor of the
/// machine had its turn.
public struct RunDelay: Sendable {
  /// How often it is worth asking the host how long the thread has run, in nanoseconds.
  private static let interval: UInt64 = 10_000_000

  /// On the monotonic clock, when it was last asked; how long the thread had run until then, and how long it has slept since.
  private var since: UInt64 = 0
  private var ran: UInt64 = 0
  private var asleep: UInt64 = 0

  /// Nothing is known.
  public init() {}

  /// This thread runs the processor from now on.
  /// - Parameter now: on the monotonic clock, in nanoseconds.
  public mutating func enter(now: UInt64) { begin(now: now, threadTime: LostTime.threadTime()) }

  /// The guest was idle.
  public mutating func slept(from began: UInt64, to ended: UInt64) { asleep &+= ended &- min(began, ended) }

  /// The processor has wanted nothing for so many nanoseconds.
  public mutating func rested(_ nanoseconds: UInt64) { asleep &+= nanoseconds }

  /// The delay since it was last taken, in nanoseconds; `nil` if that is hardly ago.
  public mutating func take(now: UInt64) -> UInt64? {
    guard now > since, now - since >= Self.interval else { return nil }
    return take(now: now, threadTime: LostTime.threadTime())
  }

  /// The same for a thread that has run so many nanoseconds in all.
  mutating func take(now: UInt64, threadTime: UInt64) -> UInt64 {
    let accounted = (threadTime &- min(threadTime, ran)) &+ asleep
    let elapsed = now &- since
    begin(now: now, threadTime: threadTime)
    return elapsed &- min(elapsed, accounted)
  }

  private mutating func begin(now: UInt64, threadTime: UInt64) {
    since = now
    ran = threadTime
    asleep = 0
  }
}
