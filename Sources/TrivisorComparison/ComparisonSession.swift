// The same guest under every technique, in turns: the first technique, the second, the third, and again. So what slows the
// host down for a while slows down all of them. Each run is a process of its own; nothing is warm that would not be warm
// for a user, but what the warm-up runs leave in the host's caches.

import TrivisorGuestProcess
import Glibc
import TrivisorVMM

/// What to compare.
public struct ComparisonPlan: Sendable {
  /// As the user named it.
  public var image: String
  /// The words behind `trivisor run`, without the technique.
  public var runArguments: [String]
  /// In this order.
  public var techniques: [String]
  /// Why some of them need not be tried, by name.
  public var obstacles: [String: String] = [:]
  /// What to know of the figures of some of them on this host, by name.
  public var cautions: [String: String] = [:]
  /// Which of them ratios are to; `nil` for the first that runs without a caution, else the first that runs.
  public var base: String?
  /// How many runs count.
  public var repetitions = 5
  /// How many runs before them don't.
  public var warmUps = 1
  /// Nanoseconds that a run may take.
  public var timeLimit: UInt64 = 120_000_000_000
  /// Whether the guest's output must be the same too.
  public var comparesOutput = true
  /// Lines of the output that may differ: an extended regular expression.
  public var ignoredLines: String?

  /// - Parameter runArguments: the words behind `trivisor run`, without the technique.
  public init(image: String, runArguments: [String], techniques: [String]) {
    self.image = image
    self.runArguments = runArguments
    self.techniques = techniques
  }
}

/// Runs a plan.
public final class ComparisonSession {
  /// Told which run begins: the technique, its number from 1, how many there are.
  public var whenRunBegins: (String, Int, Int) -> Void = { _, _, _ in }

  private let plan: ComparisonPlan
  private var techniques: [TechniqueRuns]
  private var failure: LinePattern.Failure?

  /// - Parameter plan: what to compare.
  public init(_ plan: ComparisonPlan) {
    self.plan = plan
    techniques = plan.techniques.map { name in
      var runs = TechniqueRuns(name)
      runs.obstacle = plan.obstacles[name]
      runs.caution = plan.cautions[name]
      return runs
    }
  }

  /// Runs everything, on the process's first thread.
  /// - Returns: the comparison, and the signal that ended it early, if one did.
  /// - Throws: `LinePattern.Failure`, `ProcessFailure`.
  public func run() throws -> (comparison: Comparison, signal: Int32?) {
    let ignored = try plan.ignoredLines.map { try LinePattern($0) }
    let rounds = plan.warmUps + plan.repetitions
    var next = 0
    let pool = GuestProcessPool(jobs: 1)
    let signal = try pool.run { [self] in
      while next < rounds * techniques.count {
        let (round, index) = next.quotientAndRemainder(dividingBy: techniques.count)
        next += 1
        guard techniques[index].obstacle == nil else { continue }
        whenRunBegins(techniques[index].name, round + 1, rounds)
        return ComparisonJob(plan, technique: techniques[index].name, ignored: ignored) { [self] job, ending in
          take(job, ending, into: index, counts: round >= plan.warmUps)
        }
      }
      return nil
    }
    return (Comparison(plan, techniques), signal)
  }

  /// What to know of the figures of a technique that did not run the guest as its name says.
  private static let cautionsOfManners = [
    "translated": "the guest is linked for addresses that no process has, so its code is translated"
  ]

  private func take(_ job: ComparisonJob, _ ending: GuestEnding, into index: Int, counts: Bool) {
    guard ending.reason != .interrupted else { return }
    if let manner = ending.record?.manner {
      techniques[index].manner = manner
      techniques[index].caution = Self.cautionsOfManners[manner] ?? techniques[index].caution
    }
    if ending.reason == .overdue || ending.record?.outcome == "timedOut" {
      // How far it would have come in the time of another technique says nothing, and another run would not either.
      let seconds = ComparisonText.decimal(Double(plan.timeLimit) / 1e9, 1)
      techniques[index].giveUp("it did not end within its time limit of \(seconds) s")
      return
    }
    guard let record = ending.record, record.outcome != "failed", record.outcome != "signalled" else {
      techniques[index].obstacle = ending.record?.detail ?? ending.complaint ?? "Trivisor gave no result"
      return
    }
    let result = GuestResult(
      outcome: record.outcome, code: record.guestCode, lines: plan.comparesOutput ? job.comparedLines : nil,
      detail: record.detail)
    if let first = techniques[index].result {
      techniques[index].instability = techniques[index].instability ?? result.difference(from: first)
    } else {
      techniques[index].result = result
    }
    guard counts else { return }
    let measurements = job.measurements
    for (name, _) in measurements where !techniques[index].measurementNames.contains(name) {
      techniques[index].measurementNames.append(name)
    }
    techniques[index].samples.append(
      RunSample(
        ending, record, began: job.began, firstOutput: job.firstOutput, measurements: Dictionary(measurements) { $1 }))
  }
}

/// One run.
private final class ComparisonJob: GuestJob {
  /// More of an output is not kept.
  private static let outputLimit = 16 << 20

  private let plan: ComparisonPlan
  private let technique: String
  private let ignored: LinePattern?
  private let whenEnded: (ComparisonJob, GuestEnding) -> Void
  private var output: [UInt8] = []
  private(set) var began: UInt64 = 0
  private(set) var firstOutput: UInt64?

  init(
    _ plan: ComparisonPlan, technique: String, ignored: LinePattern?,
    whenEnded: @escaping (ComparisonJob, GuestEnding) -> Void
  ) {
    self.plan = plan
    self.technique = technique
    self.ignored = ignored
    self.whenEnded = whenEnded
  }

  var arguments: [String] {
    plan.runArguments + ["--technique=\(technique)", "--timeout=\((plan.timeLimit + 999_999) / 1_000_000)ms"]
  }

  var hardLimit: UInt64? { plan.timeLimit.addingReportingOverflow(10_000_000_000).partialValue }

  func begin() { began = monotonicNanoseconds() }

  func receive(_ bytes: UnsafeRawBufferPointer, at time: UInt64) -> Bool {
    firstOutput = firstOutput ?? time
    output += bytes.prefix(max(Self.outputLimit - output.count, 0))
    return true
  }

  func end(_ ending: GuestEnding) { whenEnded(self, ending) }

  private var lines: [ArraySlice<UInt8>] {
    output.filter { $0 != 0x0d }.split(separator: 0x0a, omittingEmptySubsequences: true)
  }

  /// The lines that must be the same.
  var comparedLines: [String] {
    lines.filter { !(ignored?.matches($0) ?? false) }.map { String(decoding: $0, as: UTF8.self) }
  }

  /// What the guest measured: lines such as `port read: 1234 cycles`.
  var measurements: [(String, Double)] {
    var found: [(String, Double)] = []
    for line in lines where line.count < 200 {
      let text = String(decoding: line, as: UTF8.self)
      guard text.hasSuffix(" cycles"), let colon = text.lastIndex(of: ":") else { continue }
      let number = text[text.index(after: colon)...].dropLast(" cycles".count).drop { $0 == " " }
      guard let value = Double(number), value.isFinite else { continue }
      found.append((String(text[..<colon].drop { $0 == " " }), value))
    }
    return found
  }
}
