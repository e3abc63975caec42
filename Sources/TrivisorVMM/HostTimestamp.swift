import TrivisorCLinux
import Glibc

/// The host's time stamp counter and its frequency.
///
/// The frequency is measured against CLOCK_MONOTONIC_RAW, which no time service slews, over 20 ms or more. Whoever will
/// need it begins the measurement early, so that the time passes while something useful is done.
public enum HostTimestamp {
  private struct Sample {
    let nanoseconds: UInt64
    let timestamp: UInt64
  }

  private static let leastNanoseconds: UInt64 = 20_000_000
  private static let first = sample()
  private static let measured: UInt64 = {
    let begin = first
    var last = sample()
    while last.nanoseconds &- begin.nanoseconds < leastNanoseconds {
      usleep(UInt32((leastNanoseconds &- (last.nanoseconds &- begin.nanoseconds)) / 1000 + 1))
      last = sample()
    }
    return frequency(from: begin, to: last)
  }()

  private static func frequency(from begin: Sample, to end: Sample) -> UInt64 {
    let elapsed = end.nanoseconds &- begin.nanoseconds
    let product = (end.timestamp &- begin.timestamp).multipliedFullWidth(by: 1_000_000_000)
    guard product.high < elapsed else { return 1_000_000_000 }
    return max(elapsed.dividingFullWidth(product).quotient, 1)
  }

  /// RDTSC.
  public static var now: UInt64 { clinux_timestamp() }

  /// Ticks a second. Waits until there is a measurement, at most 20 ms; the same value ever after.
  public static var frequency: UInt64 { measured }

  /// Ticks a second, as exactly as the time since the first look at the clocks allows: for reports, because it never waits.
  public static var estimatedFrequency: UInt64 { frequency(from: first, to: sample()) }

  /// The first of the two looks at both clocks, unless it was there before.
  public static func beginMeasuring() { _ = first }

  /// The tightest of some readings of one clock between two of the other.
  private static func sample() -> Sample {
    var best = Sample(nanoseconds: 0, timestamp: 0)
    var width = UInt64.max
    for _ in 0..<16 {
      var time = timespec()
      let before = now
      clock_gettime(CLOCK_MONOTONIC_RAW, &time)
      let after = now
      guard after &- before < width else { continue }
      width = after &- before
      best = Sample(
        nanoseconds: UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec), timestamp: before &+ width / 2)
    }
    return best
  }
}
