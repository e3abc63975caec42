// From what happened to a verdict. The order of the questions is the meaning of the verdicts:
//
//     was the whole run ended?            interrupted
//     is there a result at all?           no: image or options refused (notLoaded), else monitorFailed
//     did Trivisor or the host fail?      monitorFailed
//     did it take too long?               timedOut
//     did it crash, unless it was to?     crashed
//     did it do what it must?             failed, or passed

import TrivisorGuestProcess

/// Watches one guest's console and gives the verdict.
struct Judge {
  let test: TestCase
  private let required: LinePattern?
  private let forbidden: LinePattern?
  private var lines = ConsoleLines()
  private var reader = TAPReader()
  /// What the test points come to, behind the verdict, if they count.
  private(set) var tap: TAPConclusion?
  private var hasRequired = false
  private var forbiddenLine: String?

  /// - Throws: `LinePattern.Failure`.
  init(_ test: TestCase) throws(LinePattern.Failure) {
    self.test = test
    if let pattern = test.expectation.output { required = try LinePattern(pattern) } else { required = nil }
    if let pattern = test.expectation.forbiddenOutput {
      forbidden = try LinePattern(pattern)
    } else {
      forbidden = nil
    }
  }

  /// Looks at what the guest wrote.
  /// - Returns: whether it has to go on.
  mutating func read(_ bytes: UnsafeRawBufferPointer) -> Bool {
    guard required != nil || forbidden != nil || test.expectation.tap else { return true }
    var complete: [ArraySlice<UInt8>] = []
    lines.append(bytes) { complete.append($0) }
    for line in complete { look(at: line) }
    return !(test.expectation.endsWithOutput && hasRequired)
  }

  private mutating func look(at line: ArraySlice<UInt8>) {
    if test.expectation.tap { reader.read(line) }
    if !hasRequired, let required { hasRequired = required.matches(line) }
    if forbiddenLine == nil, let forbidden, forbidden.matches(line) {
      forbiddenLine = String(decoding: line.prefix(200), as: UTF8.self)
    }
  }

  /// The verdict and why.
  mutating func verdict(_ ending: GuestEnding) -> (Verdict, String) {
    var last: [ArraySlice<UInt8>] = []
    lines.finish { last.append($0) }
    for line in last { look(at: line) }
    if test.expectation.tap { tap = reader.conclusion() }
    let (verdict, reason) = judge(ending)
    // How a guest ended says less than the point that failed before.
    guard verdict == .failed || verdict == .crashed || verdict == .timedOut, let tap, !tap.isEmpty,
      let finding = tap.finding, finding != reason
    else { return (verdict, reason) }
    return (verdict, "\(reason); \(finding)")
  }

  private func judge(_ ending: GuestEnding) -> (Verdict, String) {
    if ending.reason == .interrupted { return (.interrupted, "the run was ended") }
    if ending.reason == .enough { return judgeConsole() ?? (.passed, "") }
    if ending.reason == .overdue {
      return (.monitorFailed, "Trivisor did not end in time and was killed")
    }
    if case .killed(let signal) = ending.status { return (.monitorFailed, "Trivisor was killed by signal \(signal)") }
    guard let record = ending.record else { return withoutResult(ending) }
    switch record.outcome {
    case "failed": return (.monitorFailed, record.detail ?? "Trivisor failed")
    case "signalled", "stopped", "outputClosed": return (.monitorFailed, "the guest was ended: \(record.outcome)")
    default: break
    }
    if let outcome = test.expectation.outcome {
      guard record.outcome == outcome else {
        return (Self.kind(of: record), "\(Self.describe(record)), where \(outcome) was expected")
      }
    } else {
      // A reset is a good end where --on-reset=success says so.
      let isGoodReset = record.outcome == "reset" && record.status == 0
      guard record.outcome == "exited" || record.outcome == "poweredOff" || isGoodReset else {
        return (Self.kind(of: record), Self.describe(record))
      }
    }
    return judgeEnd(record) ?? judgeConsole() ?? judgeSkip() ?? (.passed, "")
  }

  private func judgeEnd(_ record: RunRecord) -> (Verdict, String)? {
    let wantsCode = test.expectation.outcome == nil || test.expectation.exitCode != nil
    guard wantsCode else { return nil }
    let code = record.guestCode ?? 0
    guard code != test.expectation.rightCode else { return nil }
    return (.failed, "exit code \(code) instead of \(test.expectation.rightCode)")
  }

  private func judgeConsole() -> (Verdict, String)? {
    if let forbiddenLine { return (.failed, "the console has a line that must not be there: \(forbiddenLine)") }
    if required != nil, !hasRequired {
      return (.failed, "no line of the console matches '\(test.expectation.output ?? "")'")
    }
    if let finding = tap?.finding { return (.failed, finding) }
    return nil
  }

  private func judgeSkip() -> (Verdict, String)? {
    guard let reason = tap?.skipReason else { return nil }
    return (.skipped, reason)
  }

  private func withoutResult(_ ending: GuestEnding) -> (Verdict, String) {
    let complaint = ending.complaint ?? "Trivisor gave no result"
    switch ending.status {
    case .exited(64), .exited(127): return (.notLoaded, complaint)
    default: return (.monitorFailed, complaint)
    }
  }

  /// What an end is that was not to be. An outcome of a later version is a crash until we know better.
  private static func kind(of record: RunRecord) -> Verdict {
    switch record.outcome {
    case "timedOut": .timedOut
    case "exited", "poweredOff": .failed
    default: .crashed
    }
  }

  private static func describe(_ record: RunRecord) -> String {
    let what =
      switch record.outcome {
      case "timedOut": "the time limit ran out"
      case "initEnded": "the guest's first process ended, so its kernel panicked"
      case "tripleFault": "triple fault"
      case "panicked": "the guest's kernel panicked"
      case "halted": "halted for good without an exit code"
      case "reset": "reset without an exit code"
      case "poweredOff": "the guest switched off"
      case "commandLost": "the command's status was lost"
      case "exited": "exit code \(record.guestCode ?? 0)"
      default: record.outcome
      }
    return record.detail.map { "\(what): \($0)" } ?? what
  }
}
