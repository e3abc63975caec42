import Foundation
@testable import TrivisorGuestProcess
import Testing

@testable import TrivisorTestRunner

@Suite("from what happened to a verdict")
struct JudgeTests {
  private func record(
    _ outcome: String, code: Int? = nil, detail: String? = nil, status: Int? = nil
  ) throws -> RunRecord {
    var object: [String: Any] = [
      "schemaVersion": 1, "technique": "rewriting", "techniqueReason": "asked for", "outcome": outcome,
      "status": status ?? (outcome == "reset" ? 122 : 0),
      "times": ["setUp": 1, "guest": 1, "sinceCommand": 3, "firstInstruction": 5],
      "memory": ["peakResident": 1], "counters": ["exit": 1], "later": "member",
    ]
    if let code { object["guestCode"] = code }
    if let detail { object["detail"] = detail }
    return try JSONDecoder().decode(RunRecord.self, from: JSONSerialization.data(withJSONObject: object))
  }

  private func judge(
    _ record: RunRecord?, status: GuestEnding.Status = .exited(0), reason: GuestEnding.Reason? = nil,
    console: String = "", errors: String = "", _ change: (inout TrivisorTestRunner.Expectation) -> Void = { _ in }
  ) throws -> (Verdict, String) {
    var test = TestCase(name: "test", runArguments: [], timeLimit: 1)
    change(&test.expectation)
    var judge = try Judge(test)
    var reason = reason
    Array(console.utf8).withUnsafeBytes { bytes in
      if !judge.read(bytes) { reason = .enough }
    }
    return judge.verdict(
      GuestEnding(
        status: status, reason: reason, record: record, errors: errors, wallTime: 1, userTime: 1, systemTime: 1))
  }

  @Test("without a result, all that is wrong with a command line is told; of another failure the last line")
  func complaints() {
    func complaint(_ status: Int32, _ errors: String) -> String? {
      GuestEnding(
        status: .exited(status), reason: nil, record: nil, errors: errors, wallTime: 1, userTime: 1, systemTime: 1
      ).complaint
    }
    let findings = "trivisor: --disk: one\ntrivisor: --disk: two\n"
    #expect(complaint(64, findings) == "--disk: one; --disk: two")
    #expect(complaint(64, "trivisor: technique rewriting (asked for)\n" + findings) == "--disk: one; --disk: two")
    #expect(complaint(125, findings) == "--disk: two")
    #expect(complaint(64, "Error: nothing\nUsage: trivisor\n") == "Usage: trivisor")
    #expect(complaint(125, "") == nil)
  }

  @Test(
    "the end alone",
    arguments: [
      ("exited", Int?(0), Verdict.passed), ("exited", 3, .failed), ("poweredOff", nil, .passed),
      ("tripleFault", nil, .crashed),
      ("halted", nil, .crashed), ("reset", nil, .crashed), ("crashed", nil, .crashed), ("timedOut", nil, .timedOut),
      ("failed", nil, .monitorFailed), ("signalled", nil, .monitorFailed), ("of a later version", nil, .crashed),
    ])
  func end(outcome: String, code: Int?, verdict expected: Verdict) throws {
    #expect(try judge(record(outcome, code: code)).0 == expected)
  }

  @Test("another code, or another end, may be right")
  func wanted() throws {
    #expect(try judge(record("exited", code: 3)) { $0.exitCode = 3 }.0 == .passed)
    #expect(try judge(record("poweredOff")) { $0.exitCode = 3 }.0 == .failed)
    #expect(try judge(record("tripleFault")) { $0.outcome = "tripleFault" }.0 == .passed)
    #expect(try judge(record("exited", code: 0)) { $0.outcome = "tripleFault" }.0 == .failed)
    #expect(try judge(record("halted")) { $0.outcome = "tripleFault" }.0 == .crashed)
  }

  @Test("a reset is good where --on-reset=success says so")
  func goodReset() throws {
    #expect(try judge(record("reset", status: 0)).0 == .passed)
  }

  @Test("a line that must be there, and one that must not")
  func patterns() throws {
    let good = try record("exited", code: 0)
    #expect(try judge(good, console: "a\nready: 12\n") { $0.output = "^ready: [0-9]+$" }.0 == .passed)
    #expect(
      try judge(good, console: "ready:\u{1b}[1m 12\u{1b}[0m\r\n") { $0.output = "^ready: [0-9]+$" }.0 == .passed)
    #expect(try judge(good, console: "the last without end") { $0.output = "end$" }.0 == .passed)
    #expect(try judge(good, console: "not\nready") { $0.output = "^ready: [0-9]+$" }.0 == .failed)
    let (kind, reason) = try judge(good, console: "kernel panic: x\n") { $0.forbiddenOutput = "panic" }
    #expect(kind == .failed)
    #expect(reason.contains("kernel panic: x"))
  }

  @Test("a guest that never ends passes with its line, if that is what ends it")
  func endsWithOutput() throws {
    let (kind, _) = try judge(record("signalled"), console: "ready\n") {
      $0.output = "ready"
      $0.endsWithOutput = true
    }
    #expect(kind == .passed)
  }

  @Test("test points count only if the guest ends well")
  func tap() throws {
    let console = "1..1\nok 1\n"
    #expect(try judge(record("exited", code: 0), console: console) { $0.tap = true }.0 == .passed)
    #expect(try judge(record("exited", code: 1), console: console) { $0.tap = true }.0 == .failed)
    #expect(try judge(record("tripleFault"), console: console) { $0.tap = true }.0 == .crashed)
    #expect(try judge(record("exited", code: 0), console: "1..0 # skip x\n") { $0.tap = true }.0 == .skipped)
  }

  @Test("a guest that ends badly because a point failed: the point is named")
  func tapReason() throws {
    let console = "1..2\n    1..1\n    not ok 1 leaf\nnot ok 1 top\n"
    let point = "TAP: 1 of 1 not ok, the first: 1 top > 1 leaf"
    #expect(try judge(record("exited", code: 0), console: console) { $0.tap = true } == (.failed, point))
    #expect(
      try judge(record("exited", code: 1), console: console) { $0.tap = true }
        == (.failed, "exit code 1 instead of 0; \(point)"))
    #expect(
      try judge(record("timedOut"), console: console) { $0.tap = true } == (
        .timedOut, "the time limit ran out; \(point)"
      ))
    #expect(
      try judge(record("exited", code: 1), console: "no point\n") { $0.tap = true }.1 == "exit code 1 instead of 0")
    #expect(try judge(record("exited", code: 1), console: console).1 == "exit code 1 instead of 0")
  }

  @Test("without a result, the status and the last complaint say it")
  func withoutResult() throws {
    let missing = try judge(nil, status: .exited(127), errors: "trivisor: x: no such file\n")
    #expect(missing == (.notLoaded, "x: no such file"))
    #expect(try judge(nil, status: .exited(64)).0 == .notLoaded)
    #expect(try judge(nil, status: .exited(125)).0 == .monitorFailed)
    #expect(try judge(nil, status: .killed(signal: 11)).0 == .monitorFailed)
    #expect(try judge(nil, status: .killed(signal: 9), reason: .overdue).0 == .monitorFailed)
    #expect(try judge(record("signalled"), reason: .interrupted).0 == .interrupted)
  }

  @Test("a pattern that is none is refused")
  func badPattern() {
    #expect(throws: LinePattern.Failure.self) { try LinePattern("(") }
  }
}
