import Testing

@testable import TrivisorCommand

@Suite("Lines on a terminal")
struct TerminalTextTests {
  @Test("are broken between words and set in; what fits, and what has no gap, stays")
  func wrapping() {
    #expect(TerminalText.wrapped("trivisor: short", columns: 40) == "trivisor: short")
    let long = "trivisor: technique rewriting (automatic: this host's KVM emulates)"
    #expect(
      TerminalText.wrapped(long, columns: 40)
        == "trivisor: technique rewriting\n  (automatic: this host's KVM emulates)")
    #expect(TerminalText.wrapped("a\n  bb cc dd ee ff gg hh\n", columns: 20) == "a\n  bb cc dd ee ff gg\n    hh\n")
    let path = "/" + String(repeating: "x", count: 50)
    #expect(TerminalText.wrapped("\(path) is no file", columns: 20) == "\(path)\n  is no file")
    #expect(TerminalText.wrapped(long, columns: 3) == long)
    #expect(TerminalText.wrapped("", columns: 80) == "")
  }

  @Test("have no line that is longer than the terminal, at any width", arguments: [20, 33, 80, 200])
  func widths(columns: Int) {
    let text = (1...90).map { String(repeating: "w", count: $0 % 9 + 1) }.joined(separator: " ")
    let lines = TerminalText.wrapped("   " + text, columns: columns).split(separator: "\n")
    #expect(lines.allSatisfy { $0.count <= columns })
    let words = lines.flatMap { $0.split(separator: " ") }
    #expect(words.joined(separator: " ") == text)
  }
}
