import Foundation
import FoundationXML
import Testing

@testable import TrivisorTestRunner

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
      TAPPoint(number: 3, description: "later", isOK: false, directive: .todo, explanation: "soon"),
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

  private var nested: TestResult {
    var reader = TAPReader()
    let console = """
      1..3
          1..2
              1..1
              not ok 1 <leaf>
          not ok 1 mid
          ok 2 good
      not ok 1 top
          1..1
          not ok 1 excused
      not ok 2 later # TODO soon
          1..2
          ok 1 only
      ok 3 short
      """
    for line in console.split(separator: "\n") { reader.read(Array(line.utf8)[...]) }
    var result = TestResult("tap", .failed, "why")
    result.points = reader.conclusion().points
    return result
  }

  @Test("subtests are suites in suites, and a failure is counted where it happened")
  func nestedJUnit() throws {
    let document = try XMLDocument(data: Data(JUnitReport.text([nested], wallTime: 1).utf8))
    func names(_ path: String) throws -> [String?] { try document.nodes(forXPath: path).map(\.stringValue) }
    let suite = "/testsuites/testsuite[@name='trivisor.tap']"
    #expect(try names("\(suite)/testcase/@name") == ["2 later", "3 short"])
    #expect(
      try names("\(suite)/testsuite/@name") == ["trivisor.tap.1 top", "trivisor.tap.2 later", "trivisor.tap.3 short"])
    #expect(try names("\(suite)/testsuite[1]/testcase/@name") == ["2 good"])
    #expect(try names("\(suite)/testsuite[1]/testsuite/testcase/@name") == ["1 <leaf>"])
    #expect(try names("\(suite)/@tests") == ["6"])
    #expect(try names("\(suite)/@failures") == ["2"])
    #expect(try names("\(suite)/@skipped") == ["2"])
    #expect(try names("//failure/@message").suffix(2) == ["not ok", "1 test points where the plan says 2"])
    #expect(try names("//skipped/@message") == ["to do", "to do: soon"])
    let root = try #require(document.rootElement())
    #expect(root.attribute(forName: "tests")?.stringValue == "\(try document.nodes(forXPath: "//testcase").count)")
    #expect(root.attribute(forName: "failures")?.stringValue == "\(try document.nodes(forXPath: "//failure").count)")
  }

  @Test("the JSON report nests points as the console does")
  func nestedJSON() throws {
    let text = try TestReport([nested], verdict: .failed, status: 1, wallTime: 1, shard: .whole).text()
    let object = try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
    let points = try #require((object["tests"] as? [[String: Any]])?.first?["points"] as? [[String: Any]])
    #expect(points.map { ($0["points"] as? [[String: Any]])?.count } == [2, 1, 1])
    #expect(points[1]["explanation"] as? String == "soon")
    #expect(points[2]["problem"] as? String == "1 test points where the plan says 2")
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
