import Testing

@testable import TrivisorTestRunner

/// The forms are those of TAP 14's "Subtests", of Linux' Documentation/dev-tools/ktap.rst, of KUnit's console output and of
/// the selftests' runner (tools/testing/selftests/kselftest/runner.sh).
@Suite("subtests in TAP 14 and KTAP")
struct TAPSubtestTests {
  private func read(_ text: String) -> TAPConclusion {
    var reader = TAPReader()
    for line in text.split(separator: "\n", omittingEmptySubsequences: false) { reader.read(Array(line.utf8)[...]) }
    return reader.conclusion()
  }

  /// `1 heap(1 sizes, 2 frees)` for points in a point.
  private func outline(_ points: [TAPPoint]) -> String {
    points.map { $0.title + ($0.points.isEmpty ? "" : "(\(outline($0.points)))") }.joined(separator: ", ")
  }

  private let unitTests = """
    KTAP version 1
    1..2
        KTAP version 1
        # Subtest: heap
        # module: heap_test
        1..3
            KTAP version 1
            # Subtest: sizes
            ok 1 4 KiB
            ok 2 2 MiB
        # sizes: pass:2 fail:0 skip:0 total:2
        ok 1 sizes
        # frees: EXPECTATION FAILED at lib/heap_test.c:31
        RESULT 2 frees
        ok 3 grows # SKIP no memory
    # heap: pass:2 fail:0 skip:1 total:3
    # Totals: pass:3 fail:0 skip:1 total:4
    RESULT 1 heap
        # Subtest: list
        1..1
        ok 1 - empty
    ok 2 - list
    """

  @Test("KUnit: suites, cases and parameters, old and new")
  func kernelUnitTests() {
    let good = read(unitTests.replacing("RESULT", with: "ok"))
    #expect(good.finding == nil)
    #expect(outline(good.points) == "1 heap(1 sizes(1 4 KiB, 2 2 MiB), 2 frees, 3 grows), 2 list(1 empty)")
    let bad = read(unitTests.replacing("RESULT", with: "not ok"))
    #expect(bad.finding == "TAP: 1 of 2 not ok, the first: 1 heap > 2 frees")
    let log = unitTests.replacing("RESULT", with: "ok").split(separator: "\n").map { "[    0.060000][    T1] \($0)" }
    #expect(read(log.joined(separator: "\n")).finding == nil)
  }

  @Test("KTAP: two columns a level, no names above")
  func nested() {
    let text = """
      KTAP version 1
      1..1
        KTAP version 1
        1..2
          KTAP version 1
          1..1
          ok 1 deep
        ok 1 one
          KTAP version 1
          1..2
          not ok 1 broken # TIMEOUT 30 seconds
          ok 2 whole
        not ok 2 two
      not ok 1 all
      """
    #expect(read(text).finding == "TAP: 1 of 1 not ok, the first: 1 all > 2 two > 1 broken # TIMEOUT 30 seconds")
    #expect(outline(read(text).points) == "1 all(1 one(1 deep), 2 two(1 broken # TIMEOUT 30 seconds, 2 whole))")
  }

  @Test("TAP 14: names above, none, plans last, YAML inside")
  func commented() {
    let text = """
      TAP version 14
      # Subtest: files
          # Subtest: inner
              ok 1
              1..1
          ok 1 - inner # time=3ms
          not ok 2 - later # TODO
            ---
            not ok 9
            ...
          1..2
      ok 1 - files # time=5ms
              ok 1 - twice
              1..1
          ok 1 - parent
          1..1
      ok 2 - bare
      # Subtest: empty
          1..0
      ok 3 - empty
      # Subtest: nothing at all
      ok 4 - nothing at all
      # Subtest
          ok 1
          1..1
      ok 5
      1..5
      """
    #expect(read(text).finding == nil)
    #expect(
      outline(read(text).points)
        == "1 files # time=5ms(1 inner # time=3ms(1), 2 later), 2 bare(1 parent(1 twice)), 3 empty, 4 nothing at all, 5(1)"
    )
  }

  @Test("selftests of Linux: a test's own points stand in comments")
  func selftests() {
    func text(_ inner: String, _ outer: String) -> String {
      """
      TAP version 13
      1..2
      # timeout set to 45
      # selftests: mm: one
      # TAP version 13
      # 1..3
      # ok 1 reads
      # \(inner) 2 writes
      # # Totals: pass:2 fail:0
      \(outer) 1 selftests: mm: one
      # selftests: mm: two
      # ok, it runs
      # not ok at all
      ok 2 selftests: mm: two # SKIP
      """
    }
    #expect(read(text("ok", "ok")).finding == nil)
    #expect(outline(read(text("ok", "ok")).points) == "1 selftests: mm: one(1 reads, 2 writes), 2 selftests: mm: two")
    let finding = "TAP: 1 of 2 not ok, the first: 1 selftests: mm: one > 2 writes"
    #expect(read(text("not ok", "not ok")).finding == finding)
    #expect(read(text("not ok", "ok")).finding == finding)
    #expect(read(text("ok", "not ok")).finding == "TAP: 1 of 2 not ok, the first: 1 selftests: mm: one")
  }

  @Test(
    "a point is no better than its subtest",
    arguments: [
      ("1..1\n    1..1\n    not ok 1 leaf\nok 1 top", "1 top > 1 leaf"),
      ("1..1\n    1..2\n    ok 1\nok 1 top", "1 top: 1 test points where the plan says 2"),
      ("1..1\n    1..1\n    1..1\n    ok 1\nok 1 top", "1 top: a second plan, 1..1"),
      ("1..1\n    1..2\n    ok 1\n    ok 1\nok 1 top", "1 top: test point 1 is there twice"),
      ("1..1\n# Subtest: a\n    1..1\n    ok 1\nok 1 - b", "1 b: the subtest is called 'a'"),
      ("1..1\nok 1\n    1..1\n    ok 1", "a subtest without a result"),
      ("1..1\nok 1\n    not ok 5 leaf", "a subtest without a result, in it not ok: 5 leaf"),
      ("1..1\n        1..1\n        not ok 1 leaf\n    ok 1 mid\nok 1 top", "1 top > 1 mid > 1 leaf"),
      ("1..2\nok 1\n    ok 2", "1 test points where the plan says 2"),
    ])
  func bad(text: String, finding: String) {
    #expect(read(text).finding?.hasSuffix(finding) == true, "\(read(text).finding ?? "good")")
  }

  @Test(
    "a directive speaks for the subtest too",
    arguments: ["ok 1 top # SKIP", "not ok 1 top # TODO", "not ok 1 top # SKIP"])
  func excused(result: String) {
    #expect(read("1..1\n    1..2\n    not ok 1 leaf\n\(result)").finding == nil)
  }

  @Test("indented lines that only look like points are somebody else's", arguments: ["    ok", "  ok 7", "\tok then"])
  func chatter(line: String) {
    #expect(read("1..1\nok 1\n\(line)").finding == nil)
    #expect(read("\(line)\n1..1\nok 1").finding == nil)
  }
}
