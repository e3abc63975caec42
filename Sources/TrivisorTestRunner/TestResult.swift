/// What came of one test, as reports tell it.
public struct TestResult: Sendable {
  /// As in the list of tests.
  public let name: String
  /// What came of it.
  public var verdict: Verdict
  /// One sentence on why, empty where it passed.
  public var reason: String
  /// What ran the guest, where it came so far.
  public var technique: String?
  /// Nanoseconds of wall time, of the last attempt.
  public var wallTime: UInt64 = 0
  /// How often it was run; more than once only if retries were asked for.
  public var attempts = 1
  /// The guest's exit code, if it gave one.
  public var guestCode: UInt8?
  /// How the guest ended, in the words of docs/result.md.
  public var outcome: String?
  /// The end of what the guest wrote.
  public var consoleTail: [UInt8] = []
  /// What Trivisor said.
  public var errors = ""
  /// Where the whole console is kept.
  public var artifact: String?
  /// In TAP's words, if the guest spoke it.
  public var points: [TAPPoint] = []
  /// How many points more there were than `points` holds.
  public var pointsLeftOut = 0

  /// - Parameter reason: one sentence, empty where it passed.
  init(_ name: String, _ verdict: Verdict, _ reason: String = "") {
    self.name = name
    self.verdict = verdict
    self.reason = reason
  }
}
