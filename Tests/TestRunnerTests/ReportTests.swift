import Foundation
import FoundationXML
import Testing

@testable import TestRunner

@Suite("shards and reports")
struct ReportTests {
  @Test("shards are disjoint and make up the whole")
  func shards() throws {
    let all = Array(0..<10)
    let parts = try (0..<3).map { index in
      try Shard { ["TEST_TOTAL_SHARDS": "3", "TEST_SHARD_INDEX": "\(index)"][$0] }.part(of: all)
    }
    #expect(parts == [[0, 3, 6, 9], [1, 4, 7], [2, 5, 8]])
    #expect(try Shard { _ in nil } == .whole)
  }

  @Test("half a shard is refused", arguments: [("3", ""), ("", "0"), ("3", "3"), ("0", "0"), ("x", "0"), ("3", "-1")])
  func badShards(total: String, index: String) {
    #expect(throws: Shard.Failure.self) {
      try Shard { ["TEST_TOTAL_SHARDS": total, "TEST_SHARD_INDEX": index][$0] }
    }
  }

  private var results: [TestResult] {
    var good = TestResult("guest:hello & co", .passed)
    good.consoleTail = Array("Hello <world>\u{1}\r\n]]>".utf8)
    var bad = TestResult("bad \"one\"", .failed, "exit code 3 instead of 0")
    bad.points = [
      TAPPoint(number: 1, description: "first", isOK: true, directive: nil),
      TAPPoint(number: 2, description: "", isOK: false, directive: nil),
      TAPPoint(number: 3, description: "later", isOK: false, directive: .todo),
    ]
    return [good, bad, TestResult("slow", .timedOut, "the time limit ran out"), TestResult("none", .skipped, "why")]
  }

  @Test("JUnit's XML is well-formed, whatever a guest wrote, and counts rightly")
  func junit() throws {
    let text = JUnitReport.text(results, wallTime: 1_234_567_890)
    let document = try XMLDocument(data: Data(text.utf8))
    let root = try #require(document.rootElement())
    #expect(root.attribute(forName: "tests")?.stringValue == "7")
    #expect(root.attribute(forName: "failures")?.stringValue == "2")
    #expect(root.attribute(forName: "errors")?.stringValue == "1")
    #expect(root.attribute(forName: "time")?.stringValue == "1.235")
    #expect(try document.nodes(forXPath: "//testsuite").count == 2)
    let names = try document.nodes(forXPath: "//testsuite[1]/testcase/@name").map(\.stringValue)
    #expect(names == ["guest:hello & co", "bad \"one\"", "slow", "none"])
    #expect(try document.nodes(forXPath: "//system-out")[0].stringValue == "Hello <world>\u{fffd}\n]]>")
    #expect(try document.nodes(forXPath: "//testcase/skipped").count == 2)
  }

  @Test("the JSON report has every test with its verdict")
  func json() throws {
    let text = try TestReport(results, verdict: .timedOut, status: 124, wallTime: 5_000_000, shard: .whole).text()
    let object = try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
    #expect(object["schemaVersion"] as? Int == 1)
    #expect(object["status"] as? Int == 124)
    #expect((object["counts"] as? [String: Int])?["failed"] == 1)
    let tests = try #require(object["tests"] as? [[String: Any]])
    #expect(tests.map { $0["verdict"] as? String } == ["passed", "failed", "timedOut", "skipped"])
    #expect((tests[1]["points"] as? [[String: Any]])?.count == 3)
  }

  @Test("a file's name is safe and nobody else's")
  func fileNames() {
    #expect(TestSession.fileName("../../etc/passwd", index: 0) == "0001-.._.._etc_passwd.console")
    #expect(TestSession.fileName(String(repeating: "é", count: 500), index: 41).utf8.count < 120)
  }
}
