import Testing

@testable import TestRunner

@Suite("the Test Anything Protocol in a console")
struct TAPReaderTests {
  private func read(_ text: String) -> TAPReader {
    var reader = TAPReader()
    var lines = ConsoleLines()
    var bytes = Array(text.utf8)
    bytes.append(0x0a)
    bytes.withUnsafeBytes { bytes in
      lines.append(bytes) { reader.read($0) }
    }
    return reader
  }

  @Test("points, directives and a plan, between lines that are somebody else's")
  func good() {
    let reader = read(
      """
      booting\r
      TAP version 14
      1..4
      ok 1 - first
          not ok 1 - of a subtest
      okay, that was the first
      ok 2 second # SKIP no device
      not ok 3 - third # TODO later
      [   12.345678] ok 4 a \\# in it
      """)
    #expect(reader.finding == nil)
    #expect(reader.points.map(\.description) == ["first", "second", "third", "a \\# in it"])
    #expect(reader.points.map(\.directive) == [nil, .skip, .todo, nil])
  }

  @Test(
    "what is no success",
    arguments: [
      ("1..2\nok 1\nnot ok 2 - bad", "1 of 2 not ok, the first: 2 bad"),
      ("1..2\nok 1", "1 test points where the plan says 2"),
      ("ok 1", "no plan"),
      ("1..2\nok 1\nok 3", "test point 3 where 2 was due"),
      ("1..2\nok 1\nBail out! fire", "bailed out: fire"),
      ("", "no plan"),
      ("1..99999999999999999999\nok 99999999999999999999999", "no plan"),
    ])
  func bad(text: String, finding: String) {
    #expect(read(text).finding?.contains(finding) == true)
  }

  @Test("points without numbers count by themselves; the plan may come last")
  func unnumbered() {
    #expect(read("ok\nok - two\n1..2").finding == nil)
  }

  @Test("a plan of nothing with a reason skips all")
  func skipped() {
    let reader = read("1..0 # SKIP no vectors here")
    #expect(reader.finding == nil)
    #expect(reader.skipReason == "no vectors here")
  }
}
