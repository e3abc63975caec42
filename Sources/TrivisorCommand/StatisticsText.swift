import TrivisorDevices
import TrivisorPlatform
import TrivisorVMM

/// `--stats` for the terminal.
enum StatisticsText {
  /// Several lines without a newline at the end.
  /// - Parameter execution: when the process was made, on the host's CLOCK_MONOTONIC.
  static func of(_ result: RunResult, since execution: UInt64) -> String {
    var lines = ["what the run cost:"]
    lines.append("  set-up \(milliseconds(result.times.setUp)) ms, guest \(milliseconds(result.times.guest)) ms")
    lines.append("  " + timeline(result.timeline, since: execution))
    lines.append("  most memory resident: \(ResidentMemory.peak >> 10) KiB")
    if let balloon = result.balloon { lines += BalloonQuestion.lines(balloon).map { "  " + $0 } }
    for event in CountedEvent.allCases where result.counters[event] > 0 {
      lines.append("  \(event.title): \(result.counters[event])")
    }
    // Times first, then what happened most often.
    let units: [(prefix: String, perUnit: UInt64)] = [("microseconds ", 1000), ("nanoseconds ", 1)]
    var times: [(name: String, nanoseconds: UInt64)] = []
    var counts: [(name: String, count: UInt64)] = []
    for (name, value) in result.details where value > 0 {
      if let unit = units.first(where: { name.hasPrefix($0.prefix) }) {
        times.append((String(name.dropFirst(unit.prefix.count)), value.multipliedReportingOverflow(by: unit.perUnit).0))
      } else {
        counts.append((name, value))
      }
    }
    for time in times.sorted(by: { ($1.nanoseconds, $0.name) < ($0.nanoseconds, $1.name) }) {
      lines.append("  \(time.name): \(milliseconds(time.nanoseconds)) ms")
    }
    for count in counts.sorted(by: { ($1.count, $0.name) < ($0.count, $1.name) }) {
      lines.append("  \(count.name): \(count.count)")
    }
    return lines.joined(separator: "\n")
  }

  private static func timeline(_ timeline: Timeline, since execution: UInt64) -> String {
    var moments = [
      ("memory", timeline.memory), ("image", timeline.image), ("first instruction", timeline.firstInstruction),
    ]
    if let output = timeline.firstOutput { moments.append(("first output", output)) }
    if let output = timeline.firstInterruptDrivenOutput { moments.append(("first output by interrupt", output)) }
    for milestone in timeline.milestones { moments.append(("milestone \(milestone.value)", milestone.time)) }
    let texts = moments.map { "\($0.0) at \(milliseconds($0.1 &- execution)) ms" }
    return "since exec: " + texts.joined(separator: ", ")
  }

  /// With two decimals.
  private static func milliseconds(_ nanoseconds: UInt64) -> String {
    let hundredths = (nanoseconds + 5_000) / 10_000
    let fraction = hundredths % 100
    return "\(hundredths / 100).\(fraction < 10 ? "0" : "")\(fraction)"
  }
}
