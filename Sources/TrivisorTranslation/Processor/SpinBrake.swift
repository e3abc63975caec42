// A processor that waits for another one in a loop with PAUSE keeps a core of the host busy, on which perhaps the other one waits to run. So PAUSE
// counts, and when many have come in a short time, the processor's thread sleeps for a moment. It is what processors do for monitors by
// exits at PAUSE (AMD64 APM vol. 2, 15.14.4, pause intercept filtering).

import TrivisorCWorldSwitch
import TrivisorVMM

/// When a processor that spins is to rest.
struct SpinBrake {
  /// PAUSEs until it is asked. One takes 30 to 140 cycles of the time stamp counter, by the processor, so a lock that is held for a
  /// short time is free long before.
  static let count: UInt64 = 2048
  /// PAUSEs that have taken longer are no loop that waits: with what it looks at between them, such a loop spends a good part of its
  /// time in PAUSE. Nanoseconds.
  static let window = 4 * costOfPauses()
  private static let shortestRest: UInt64 = 50_000
  /// Each rest of a loop is twice as long as the one before, up to so many doublings.
  private static let doublings = 4

  private var last: UInt64 = 0
  private var streak = 0

  /// How long `count` PAUSEs take on this host, in nanoseconds: the shortest of some tries, since others may run between.
  private static func costOfPauses() -> UInt64 {
    var shortest = UInt64.max
    for _ in 0..<5 {
      let began = monotonicNanoseconds()
      for _ in 0..<count { cws_pause() }
      shortest = min(shortest, monotonicNanoseconds() &- began)
    }
    return shortest
  }

  /// `count` PAUSEs have been executed since the last time.
  /// - Parameter now: in nanoseconds.
  /// - Returns: for how long the processor is to rest, in nanoseconds; 0 if it is not.
  mutating func rest(at now: UInt64) -> UInt64 {
    defer { last = now }
    guard now &- last <= Self.window else {
      streak = 0
      return 0
    }
    defer { streak = min(streak + 1, Self.doublings) }
    return Self.shortestRest << UInt64(streak)
  }

  /// It has rested until then.
  mutating func rested(until now: UInt64) { last = now }
}

extension BlockLoop {
  /// The processor spins, so that its thread may have a rest, at a safe point.
  /// - Returns: `false` if somebody wants it.
  func restFromSpinning() -> Bool {
    let began = monotonicNanoseconds()
    let rest = processor.spinBrake.rest(at: began)
    // A domain's processors have turns of their own, which this one would keep.
    guard rest > 0, turn.mayRest, !processor.surroundings.takesSystemCalls else { return !processor.stop.isWanted }
    let before = cws_timestamp()
    turn.leave()
    let awakening = processor.sleep(until: began &+ rest)
    turn.enter()
    processor.ledger.parked &+= cws_timestamp() &- before
    processor.ledger.rests &+= 1
    let ended = monotonicNanoseconds()
    processor.ledger.rested &+= min(ended &- began, rest)
    processor.spinBrake.rested(until: ended)
    return awakening == .time
  }
}
