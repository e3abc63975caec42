import TrivisorGuestProcess

/// One run of the guest under one technique, in figures. Times are milliseconds.
public struct RunSample: Sendable, Encodable {
  /// From before the process was made until it was gone.
  public let whole: Double
  /// From before the process was made to the guest's first instruction.
  public let start: Double
  /// From there until the last processor was gone and the output delivered.
  public let guest: Double
  /// What was left to do then.
  public let end: Double
  /// From before the process was made to the guest's first byte of output, if it wrote any.
  public let firstOutput: Double?
  /// Processor time of the host in user mode: the monitor, and with it what guest code runs in user mode.
  public let user: Double
  /// Processor time in the host's kernel, guest mode under KVM included.
  public let system: Double
  /// Bytes: the most that the process had resident.
  public let peakResident: UInt64
  /// Events by name, those among them that only one technique counts (docs/result.md).
  public let counters: [String: UInt64]
  /// What the guest measured by itself, by name.
  public let measurements: [String: Double]

  /// Milliseconds in guest code, where the technique can tell.
  var inGuest: Double? {
    if let time = counters["nanosecondsInGuest"], time > 0 { return Double(time) / 1e6 }
    return counters["microseconds in guest code"].map { Double($0) / 1e3 }
  }
  /// Whether a counter is a time, and so no event.
  static func isTime(_ name: String) -> Bool { name == "nanosecondsInGuest" || name.hasPrefix("microseconds ") }
  /// Milliseconds of `guest` that were not in guest code.
  var inMonitor: Double? { inGuest.map { max(guest - $0, 0) } }

  init(_ ending: GuestEnding, _ record: RunRecord, began: UInt64, firstOutput: UInt64?, measurements: [String: Double])
  {
    whole = Double(ending.wallTime) / 1e6
    start = record.times.firstInstruction > began ? Double(record.times.firstInstruction - began) / 1e6 : 0
    guest = record.times.guest
    end = max(whole - start - guest, 0)
    self.firstOutput = firstOutput.map { Double($0) / 1e6 }
    user = Double(ending.userTime) / 1e6
    system = Double(ending.systemTime) / 1e6
    peakResident = record.memory.peakResident
    counters = record.counters.merging(record.details ?? [:]) { first, _ in first }
    self.measurements = measurements
  }
}

/// Several values of the same thing.
public struct Spread: Sendable, Equatable, Encodable {
  /// The one in the middle, or between the two there.
  public let median: Double
  /// The smallest.
  public let minimum: Double
  /// The largest.
  public let maximum: Double

  /// `nil` where there is no value.
  public init?(_ values: [Double]) {
    let sorted = values.sorted()
    guard let first = sorted.first, let last = sorted.last else { return nil }
    (minimum, maximum) = (first, last)
    let middle = sorted.count / 2
    median = sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
  }
}
