import Testing
import TrivisorVMM

@Suite("words behind commas")
struct TrailingWordsTests {
  private static let vocabulary = TrailingWords.Vocabulary(
    ["ro", "rw", "queues=", "rw="], repeatable: ["rw="], alternatives: ["ro", "rw"])

  @Test("are taken from the end on, and a comma in front of another word belongs to the path")
  func words() throws {
    let words = try TrailingWords("a,b,rw=/x,queues=4,ro,rw=/y", Self.vocabulary)
    #expect(words.rest == "a,b")
    #expect(words.has("ro") && !words.has("rw"))
    #expect(words.value("queues=") == "4")
    #expect(words.values("rw=") == ["/x", "/y"])
    #expect(try TrailingWords("a,ro,b", Self.vocabulary).rest == "a,ro,b")
    #expect(try TrailingWords("a", Self.vocabulary).rest == "a")
  }

  @Test(
    "that are repeated, empty or contradict each other are refused, each with a clause that names them",
    arguments: [
      ("a,ro,ro", "'ro' is given twice: leave one out"), ("a,ro,queues=1,ro", "'ro' is given twice: leave one out"),
      ("a,queues=1,queues=1", "'queues=1' is given twice: leave one out"),
      ("a,queues=1,queues=2", "'queues=1' and 'queues=2' are given: leave one out"),
      ("a,rw=/x,rw=/x", "'rw=/x' is given twice: leave one out"),
      ("a,queues=", "'queues=' has no value: give one, or leave it out"),
      ("a,rw,ro", "'rw' and 'ro' can't be had together: leave one out"),
    ])
  func refused(text: String, clause: String) {
    #expect(throws: TrailingWords.Failure(clause)) { try TrailingWords(text, Self.vocabulary) }
  }

  @Test("that are unknown are refused where there is no such path")
  func unknown() throws {
    let known = "there are ro, rw, queues= and rw="
    #expect(throws: TrailingWords.Failure("there is no 'a,b', and 'b' can't stand behind a comma: \(known)")) {
      try TrailingWords("a,b,ro", Self.vocabulary).refuseUnknown()
    }
    #expect(throws: TrailingWords.Failure("there is no 'a,', and nothing stands behind the last comma: \(known)")) {
      try TrailingWords("a,,ro", Self.vocabulary).refuseUnknown()
    }
    try TrailingWords("a,b/c,ro", Self.vocabulary).refuseUnknown()
    try TrailingWords("a", Self.vocabulary).refuseUnknown()
  }
}
