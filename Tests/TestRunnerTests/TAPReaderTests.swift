import Testing

@testable import TrivisorTestRunner

@Suite("the Test Anything Protocol in a console")
struct TAPReaderTests {
  private func read(_ text: String) -> TAPConclusion {
    var reader = TAPReader()
    var lines = ConsoleLines()
    Array(text.utf8).withUnsafeBytes { bytes in
      lines.append(bytes) { reader.read($0) }
    }
    lines.finish { reader.read($0) }
    return reader.conclusion()
  }

  @Test("points, directives and a plan, between lines that are somebody else's")
  func good() {
    let found = read(
      """
      booting\r
      TAP version 14
      1..4
      ok 1 - first
      okay, that was the first
      ok 2 second # SKIP no device
      not ok 3 - third # TODO later
      [   12.345678] ok 4 a \\# in it # time=3ms
      """)
    #expect(found.finding == nil)
    #expect(found.points.map(\.description) == ["first", "second", "third", "a # in it # time=3ms"])
    #expect(found.points.map(\.directive) == [nil, .skip, .todo, nil])
    #expect(found.points.map(\.explanation) == ["", "no device", "later", ""])
  }

  @Test(
    "what is no success",
    arguments: [
      ("1..2\nok 1\nnot ok 2 - bad", "1 of 2 not ok, the first: 2 bad"),
      ("1..2\nok 1", "1 test points where the plan says 2"),
      ("ok 1", "no plan"),
      ("1..2\nok 1\nok 3", "test point 3 where the plan says 1..2"),
      ("1..1\nok 0", "test point 0 where the plan says 1..1"),
      ("1..2\nok 1\nok 1", "test point 1 is there twice"),
      ("1..2\nok 1\nBail out! fire", "bailed out: fire"),
      ("1..1\nok 1\nbail OUT!", "bailed out"),
      ("    bail out! deep\n1..0 # SKIP", "bailed out: deep"),
      ("", "no plan"),
      ("1..99999999999999999999\nok 99999999999999999999999", "where the plan says"),
      ("1..1\nok 99999999999999999999999", "a giant number"),
      ("1..2 apples\nok 1\nok 2", "no plan"),
      ("2..3\nok 2\nok 3", "no plan"),
      ("ok 1\n1..2\nok 2", "test point 2 behind the plan"),
      ("1..0 # SKIP none\nok 1", "test point 1 though the plan is empty"),
    ])
  func bad(text: String, finding: String) {
    #expect(read(text).finding?.contains(finding) == true, "\(read(text).finding ?? "good")")
  }

  @Test(
    "only `ok` as a word of its own, in small letters, is a point that is good",
    arguments: ["OK 1", "Ok 1", "okay 1", "ok: 1", "ok-1", "ok, 1", "ok1", "ok_ 1", "it is ok 1", "- ok"])
  func noPoint(line: String) {
    #expect(read("1..1\n" + line).finding == "TAP: 0 test points where the plan says 1")
  }

  @Test("`not ok` counts before punctuation too", arguments: ["not ok", "not ok: 2", "not ok, disk", "not ok-2"])
  func badPoint(line: String) {
    #expect(read("1..2\nok 1\n" + line).finding?.contains("1 of 2 not ok") == true)
  }

  @Test(
    "what only looks like a directive excuses nothing",
    arguments: [
      "not ok 1 # TODOs are many", "not ok 1 # TODO_LIST", "not ok 1 # skipped", "not ok 1 # SKIPs",
      "not ok 1 fix# TODO",
      "not ok 1# TODO", "not ok 1 fix #TODO", "not ok 1 \\# TODO", "not ok 1 TODO", "not ok 1 # the TODO",
      "not ok 1 # a # SKIP", "not ok 1 - SKIP: x", "not ok 1 # XFAIL", "not ok 1 # TIMEOUT 45 seconds",
    ])
  func noDirective(line: String) {
    #expect(read("1..1\n" + line).finding?.contains("1 of 1 not ok") == true)
  }

  @Test(
    "directives, in any case, also of what is not ok",
    arguments: [
      "not ok 1 # TODO", "not ok 1 # todo", "not ok 1 - a # ToDo: later", "not ok 1 # SKIP",
      "not ok 1 x # skip no device",
      "not ok # SKIP", "not ok 1 see #3 # TODO", "not ok 1\t#\tSKIP", "not ok 1 - # SKIP none", "ok 1 # TODO works",
    ])
  func directive(line: String) {
    let found = read("1..1\n" + line)
    #expect(found.finding == nil)
    #expect(found.points.first?.directive != nil)
  }

  @Test(
    "a second program's output is no success",
    arguments: [
      "1..2\nok 1\nok 2\n1..2\nok 1\nok 2", "1..1\nok 1\n1..1", "1..1\nok 1\nok 1", "1..1\nok 1\nok",
      "ok 1\n1..1\nok 2",
      "1..0 # SKIP\n1..1\nok 1", "TAP version 14\n1..1\nok 1\nTAP version 14", "1..1\nok 1\nKTAP version 1\n1..1\nok 1",
      "1..1\n1..0 # SKIP", "TAP version 13\nTAP version 13\n1..1\nok 1",
    ])
  func secondProgram(text: String) {
    #expect(read(text).finding != nil)
  }

  @Test("points come in any order, and count by themselves without numbers; the plan may come last")
  func order() {
    #expect(read("ok\nok - two\n1..2").finding == nil)
    #expect(read("1..4\nok 3\nok 1\nok 4\nok 2").finding == nil)
    #expect(read("1..2\nok 2nd try\nok 2").points.map(\.number) == [1, 2])
  }

  @Test(
    "a plan of nothing skips all",
    arguments: [
      ("1..0 # SKIP no vectors", "no vectors"), ("1..0 # no vectors", "no vectors"),
      ("1..0 # Skipped: no vectors", "no vectors"), ("TAP version 14\n1..0", "the plan is empty"),
      ("1..0 # skip", "the plan is empty"),
    ])
  func skipped(text: String, reason: String) {
    #expect(read(text).finding == nil)
    #expect(read(text).skipReason == reason)
  }

  @Test(
    "what Linux' log and terminals put in front of a point",
    arguments: [
      "[   12.345678] ", "[    0.060000][    T1] ", "[    1.000000][   C12] ", "<6>", "<30>[    1.000000] ", "\r",
      "\u{f}",
      "\u{1b}[0m\u{1b}(B", "\u{1b}]0;title\u{7}", "99 %\r", "\u{1b}[2J\u{1b}[H<4>[12345.678901][T9] \u{1b}[31m",
    ])
  func prefixes(prefix: String) {
    #expect(read("\(prefix)1..2\n\(prefix)ok 1\n\(prefix)ok 2\u{1b}[0m\r\n").finding == nil)
    #expect(read("1..1\n\(prefix)not ok 1").finding?.contains("1 of 1") == true)
  }

  @Test("what is no prefix of Linux' log", arguments: ["[1] ", "[ OK ] ", "[a.b] ", "<x>", "<1234>", "[1.5][X1] "])
  func noPrefix(prefix: String) {
    #expect(read("1..1\n\(prefix)ok 1").finding != nil)
  }

  @Test("a YAML block holds no points, and hides none behind it")
  func yaml() {
    let block = "  ---\n  got: |\n    not ok 7\n\n    1..9\n  ok 3\n  ...\n"
    #expect(read("1..2\nok 1\n\(block)ok 2\n\(block)").finding == nil)
    #expect(read("1..2\nok 1\n  ---\n  no end\nnot ok 2").finding?.contains("1 of 2") == true)
    #expect(read("1..2\nok 1\n---\nnot ok 2\n...").finding?.contains("1 of 2") == true)
    #expect(read("1..1\nok 1\nBail out!\n  ---\n  ok 1").finding != nil)
  }

  @Test("a console of any size is read in bounded memory and time")
  func large() {
    let count = TAPReader.pointLimit + 10
    let all = (1...count).map { "ok \($0)\n" }.joined()
    let found = read("1..\(count)\n" + all)
    #expect(found.finding == nil)
    #expect(found.points.count == TAPReader.pointLimit)
    #expect(found.pointsLeftOut == 10)
    #expect(read("1..\(count + 1)\n\(all)not ok \(count + 1) last\n").finding?.contains("last") == true)
    let scattered = (1...TAPNumbers.limit + 2).map { "ok \($0 * 2)\n" }.joined()
    #expect(read(scattered + "1..\(TAPNumbers.limit + 2)").finding?.contains("out of order") == true)
    let deep = (0..<200).map { String(repeating: " ", count: $0) + "ok 1\n" }.joined()
    #expect(read("1..1\n\(deep)ok 1\n").finding != nil)
  }

  @Test("whatever a console holds, it is read, and a failed point without a directive is never forgotten")
  func random() {
    var generator = SplitMix(state: 20_240_607)
    let words = [
      "ok", "not ok", "ok 1", "not ok 2", "ok 3 - x", "1..2", "1..0 # SKIP", "TAP version 14", "KTAP version 1",
      "# Subtest: a",
      "# Subtest", "ok 2 - a", "---", "...", "# TAP version 13", "# ok 1", "# # not ok 1", " # TODO", " # SKIP x", "\\",
      "    ", "  ", "\t", "\n", "\n", "\n", "\r", "\u{1b}[", "\u{1b}]", "\u{7}", "[ 1.2] ", "<5>", "-", "#", "\u{ff}",
      "1", "é",
      "99999999999999999999", "Bail",
    ]
    for _ in 0..<3000 {
      let text = (0..<Int.random(in: 0..<40, using: &generator)).map { _ in words.randomElement(using: &generator) ?? ""
      }
      _ = read(text.joined())
      // Behind its line feed the last point stands at the left margin: nothing before it may swallow it.
      let found = read(text.joined() + "\nnot ok 77 lost")
      #expect(found.finding != nil)
      #expect(found.points.last?.description == "lost")
    }
  }
}

/// Numbers that are the same in every run (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
struct SplitMix: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var value = state
    value = (value ^ value >> 30) &* 0xbf58_476d_1ce4_e5b9
    value = (value ^ value >> 27) &* 0x94d0_49bb_1331_11eb
    return value ^ value >> 31
  }
}
