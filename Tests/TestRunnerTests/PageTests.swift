import Foundation
import Testing

@testable import TrivisorTestRunner

@Suite("the page of a test run, and what git bisect takes")
struct PageTests {
  private static func result(_ name: String, _ verdict: Verdict) -> TestResult { TestResult(name, verdict) }

  @Test("a page is whole, and a guest's words can't break out of it")
  func page() throws {
    var bad = TestResult("</script><b>", .failed, "why")
    bad.consoleTail = Array("one\u{1b}[2J\r\n</script>two".utf8)
    let report = TestReport(
      [Self.result("good", .passed), bad], verdict: .failed, status: 1, wallTime: 2_000_000, shard: .whole,
      showsConsoles: true)
    let page = try TestPage.text(report, date: "2026-11-28T12:00:00Z")
    #expect(page.components(separatedBy: "</script>").count == 3)
    #expect(page.contains("one[2J\\n\\u003c/script>two") || page.contains("one[2J\\n\\u003c\\/script>two"))
  }

  @Test("JSON has no consoles, and says which Trivisor it is from")
  func json() throws {
    var bad = TestResult("bad", .failed, "why")
    bad.consoleTail = Array("words".utf8)
    let text = try TestReport([bad], verdict: .failed, status: 1, wallTime: 1, shard: .whole).text()
    #expect(!text.contains("words"))
    #expect(text.contains("\"version\""))
  }

  @Test(
    "bisecting: a failure is bad, an unknown is skipped unless something failed",
    arguments: [
      ([Verdict.passed, .skipped], 0), ([.passed, .failed], 1), ([.timedOut], 1), ([.crashed, .notLoaded], 1),
      ([.passed, .notLoaded], 125), ([.monitorFailed], 125), ([], 0),
    ] as [([Verdict], Int32)])
  func bisect(verdicts: [Verdict], status: Int32) {
    #expect(Verdict.bisectStatus(verdicts.map { Self.result("test", $0) }) == status)
  }
}
