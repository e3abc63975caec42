import TrivisorPlatform
import TrivisorVMM

/// What a run came to.
public struct RunResult: Sendable, CustomStringConvertible {
  /// How it ended.
  public let outcome: Outcome
  /// What ran it, and why.
  public let choice: TechniqueChoice
  /// Features of the processor model that were left out because this host lacks them.
  public let missingFeatures: [String]
  /// From the image to processors that are ready.
  public let setUpTime: Duration
  /// From the first instruction until the last processor was gone and the output delivered.
  public let guestTime: Duration
  /// Events that all techniques count, by name: what docs/result.md lists.
  public let counters: [String: UInt64]
  /// What only the technique counts, by name.
  public let details: [String: UInt64]
  /// What the boot loader has to say, a sentence each.
  public let notes: [String]
  /// What confined the process that ran it, as in "seccomp, Landlock 7"; "nothing" in the caller's own.
  public let confinement: String

  init(
    _ result: TrivisorPlatform.RunResult, choice: TechniqueChoice, missingFeatures: [String],
    confinement: String = "nothing", notes: [String] = []
  ) {
    outcome = Outcome(result.outcome)
    self.choice = choice
    self.missingFeatures = missingFeatures
    setUpTime = .nanoseconds(Int64(clamping: result.times.setUp))
    guestTime = .nanoseconds(Int64(clamping: result.times.guest))
    counters = Dictionary(uniqueKeysWithValues: CountedEvent.allCases.map { ($0.name, result.counters[$0]) })
    details = result.details
    self.notes = result.notes + notes
    self.confinement = confinement
  }

  init(
    outcome: Outcome, choice: TechniqueChoice, missingFeatures: [String], setUpTime: Duration, guestTime: Duration,
    counters: [String: UInt64], details: [String: UInt64], notes: [String], confinement: String
  ) {
    self.outcome = outcome
    self.choice = choice
    self.missingFeatures = missingFeatures
    self.setUpTime = setUpTime
    self.guestTime = guestTime
    self.counters = counters
    self.details = details
    self.notes = notes
    self.confinement = confinement
  }

  /// How it ended, under what, and how long that took; of a crash, the processor's registers below that.
  public var description: String {
    var lines = outcome.description.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
    let milliseconds = [setUpTime, guestTime].map { "\($0 / .milliseconds(1))".prefix { $0 != "." } }
    lines[0] += ", after \(milliseconds[0]) ms of set-up and \(milliseconds[1]) ms under \(choice)"
    return lines.joined(separator: "\n")
  }
}
