import TrivisorDevices
import TrivisorNamedGuests
import TrivisorPlatform

/// What `trivisor balloon` asks of who runs the guest: "balloon", or "balloon BYTES".
enum BalloonQuestion {
  /// How long a guest may take to tell how its memory is.
  private static let patience = 1000

  static func text(_ size: UInt64?) -> String { size.map { "balloon \($0)" } ?? "balloon" }

  static func answer(_ question: String, _ machine: VirtualMachine, memory: UInt64) -> Result<String, QuestionRefusal> {
    let words = question.split(separator: " ")
    guard words.first == "balloon", words.count <= 2 else {
      return .failure(QuestionRefusal("the guest runs under a version of trivisor that does not know '\(question)'"))
    }
    if words.count == 2 {
      guard let size = UInt64(words[1]), size < memory else {
        return .failure(
          QuestionRefusal("\(words[1]) bytes can't be taken from a guest that has \(memory): give less"))
      }
      _ = machine.resizeBalloon(to: size)
    }
    guard let report = machine.balloonReport(waitingMilliseconds: patience) else {
      return .failure(QuestionRefusal("the guest has no balloon: start it with --balloon SIZE, which may be 0"))
    }
    return .success(lines(report).joined(separator: "\n"))
  }

  /// For people.
  static func lines(_ report: BalloonReport) -> [String] {
    var lines = [
      "in the balloon: \(size(report.actualBytes)) of \(size(report.wantedBytes)) wanted",
      "given back to the host: \(size(report.inflatedBytes)) by the balloon, \(size(report.reportedBytes)) reported as free",
    ]
    let statistics = report.statistics
    let parts: [(String, UInt64?)] = [
      ("in all", statistics.totalMemory), ("free", statistics.freeMemory), ("available", statistics.availableMemory),
      ("files' contents", statistics.caches),
    ]
    let known = parts.compactMap { name, value in value.map { "\(size($0)) \(name)" } }
    if !known.isEmpty { lines.append("the guest's memory: " + known.joined(separator: ", ")) }
    let counts: [(String, UInt64?)] = [
      ("page faults", statistics.minorFaults), ("page faults that needed a disk", statistics.majorFaults),
      ("bytes swapped in", statistics.swapIn), ("bytes swapped out", statistics.swapOut),
    ]
    let counted = counts.compactMap { name, value in value.map { "\($0) \(name)" } }
    if !counted.isEmpty { lines.append("since its start: " + counted.joined(separator: ", ")) }
    return lines
  }

  /// In MiB, with one decimal where it is not a whole number.
  private static func size(_ bytes: UInt64) -> String {
    let tenths = (bytes * 10 + 1 << 19) >> 20
    return tenths % 10 == 0 ? "\(tenths / 10) MiB" : "\(tenths / 10).\(tenths % 10) MiB"
  }
}
