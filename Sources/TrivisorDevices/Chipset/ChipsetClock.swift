import TrivisorVMM

/// Where the chips' time comes from.
public protocol ChipsetClock: Sendable {
  /// Of a clock that does not jump.
  var nanoseconds: UInt64 { get }
  /// The host's time stamp counter.
  var timestamp: UInt64 { get }
  /// Of which there are so many ticks a second.
  var timestampFrequency: UInt64 { get }
}

/// The host's monotonic clock and its time stamp counter.
public struct HostChipsetClock: ChipsetClock {
  /// Begins to measure the counter's frequency.
  public init() { HostTimestamp.beginMeasuring() }

  /// CLOCK_MONOTONIC.
  public var nanoseconds: UInt64 { monotonicNanoseconds() }
  /// RDTSC.
  public var timestamp: UInt64 { HostTimestamp.now }
  /// As measured.
  public var timestampFrequency: UInt64 { HostTimestamp.frequency }
}

/// One point in time, in all its units, for one processor.
struct ChipsetTime {
  let nanoseconds: UInt64
  /// The guest's.
  let timestamp: UInt64
  let timestampFrequency: UInt64
}
