/// What came of one test.
public enum Verdict: String, Sendable, CaseIterable, Encodable {
  /// It did what it must.
  case passed
  /// It said itself that there was nothing to test.
  case skipped
  /// It ended, but not as it must.
  case failed
  /// It crashed: triple fault, halt for good, reset, an operation that the technique refuses.
  case crashed
  /// It took too long.
  case timedOut
  /// Its image can't be found, read or loaded, or its options can't be had.
  case notLoaded
  /// Trivisor or the host failed: nothing is known of the guest.
  case monitorFailed
  /// The whole run was ended before it was over.
  case interrupted

  /// Whether the whole run can still be a success.
  public var isGood: Bool { self == .passed || self == .skipped }

  /// The status that a whole run ends with whose worst verdict is this: as a single guest's would.
  public var status: Int32 {
    switch self {
    case .passed, .skipped: 0
    case .failed: 1
    case .timedOut: 124
    case .crashed: 126
    case .notLoaded: 127
    case .monitorFailed, .interrupted: 125
    }
  }

  /// What `git bisect run` takes for a whole run: good, bad, or a commit that nothing is known of.
  public static func bisectStatus(_ results: [TestResult]) -> Int32 {
    if results.contains(where: { [.failed, .crashed, .timedOut].contains($0.verdict) }) { return 1 }
    return results.allSatisfy(\.verdict.isGood) ? 0 : 125
  }

  /// In words.
  public var title: String {
    switch self {
    case .passed: "passed"
    case .skipped: "skipped"
    case .failed: "FAILED"
    case .crashed: "CRASHED"
    case .timedOut: "TIMED OUT"
    case .notLoaded: "NOT LOADED"
    case .monitorFailed: "TRIVISOR FAILED"
    case .interrupted: "interrupted"
    }
  }
}

extension Verdict: Comparable {
  /// Worse is greater: the less a verdict says of the guest, the worse it is.
  private var severity: Int {
    switch self {
    case .passed: 0
    case .skipped: 1
    case .failed: 2
    case .timedOut: 3
    case .crashed: 4
    case .notLoaded: 5
    case .monitorFailed: 6
    case .interrupted: 7
    }
  }

  /// Better.
  public static func < (lhs: Verdict, rhs: Verdict) -> Bool { lhs.severity < rhs.severity }
}
