import Testing

@testable import TrivisorTestRunner

@Suite("lines of a console")
struct ConsoleLinesTests {
  private func lines(_ text: String, pieces: Int = .max) -> [String] {
    var lines = ConsoleLines()
    var found: [String] = []
    var bytes = Array(text.utf8)[...]
    while !bytes.isEmpty {
      Array(bytes.prefix(pieces)).withUnsafeBytes { bytes in
        lines.append(bytes) { found.append(String(decoding: $0, as: UTF8.self)) }
      }
      bytes = bytes.dropFirst(pieces)
    }
    lines.finish { found.append(String(decoding: $0, as: UTF8.self)) }
    return found
  }

  @Test(
    "escape sequences and control characters are no text",
    arguments: [
      "\u{1b}[1;32mready\u{1b}[0m", "\u{1b}[?25lready\u{1b}[K", "\u{1b}[6 qready", "\u{1b}]0;a title\u{7}ready",
      "\u{1b}]8;;http://x\u{1b}\\ready\u{1b}]8;;\u{1b}\\", "\u{1b}(B\u{f}ready\u{e}", "\u{1b}%Gready", "\u{1b}#8ready",
      "\u{1b}7re\u{1b}8ady", "\u{1b}cready", "\u{1b}=ready\u{1b}>", "\u{1b}P+q544e\u{1b}\\ready",
      "\u{1b}_text\u{1b}\\ready",
      "\u{1b}^text\u{1b}\\ready", "\u{1b}]Rready", "\u{1b}]P0aabbccready", "\u{0}re\u{7}ad\u{8}y\u{7f}",
      "\u{1b}\u{1b}[mready",
      "\u{1b}[12\u{18}ready", "\u{1b}[3\u{7}1mready",
    ])
  func escapes(text: String) {
    #expect(lines(text + "\n") == ["ready"])
    #expect(lines(text + "\n", pieces: 1) == ["ready"])
  }

  @Test("a carriage return begins a line anew, whatever line feeds are around it")
  func carriageReturns() {
    #expect(lines("50 %\r100 %\rready\r\nb\r\r\n\n\rc") == ["50 %", "100 %", "ready", "b", "", "c"])
  }

  @Test("a sequence without its end hides no more than its line")
  func unended() {
    #expect(lines("a\u{1b}]0;title\nb\u{1b}[12\nc\u{1b}\nd\u{1b}P\re") == ["a", "b", "c", "d", "e"])
  }

  @Test("of a long line the beginning is kept")
  func long() {
    let found = lines(String(repeating: "x", count: 100_000) + "\nshort\n")
    #expect(found.map(\.utf8.count) == [ConsoleLines.lengthLimit, 5])
  }
}
