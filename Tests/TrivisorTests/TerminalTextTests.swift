import ArgumentParser
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

  @Test("of help: prose goes on at the margin, examples further in, meanings below where they begin")
  func help() {
    let text = """
      OVERVIEW: Run one guest and end with its exit code.

        trivisor run vmlinuz --initrd initrd.img --append "quiet"
        trivisor run kernel.elf         an image of yours

      USAGE: trivisor run [<options>] <image> -- [<command> ...]

        --disk <file>           A virtio disk of the guest's.
                                Another meaning that is long.
        --transport <transport> How the guest reaches it.
      """
    #expect(
      TerminalText.wrappedHelp(text, columns: 50) == """
        OVERVIEW: Run one guest and end with its exit
        code.

          trivisor run vmlinuz --initrd initrd.img
            --append "quiet"
          trivisor run kernel.elf         an image of
                                          yours

        USAGE: trivisor run [<options>] <image> --
               [<command> ...]

          --disk <file>           A virtio disk of the
                                  guest's.
                                  Another meaning that is
                                  long.
          --transport <transport> How the guest reaches
                                  it.
        """)
  }

  @Test("of each command's help fit, and examples stay set in", arguments: [40, 60, 80, 120])
  func helpOfCommands(columns: Int) {
    for command in [Trivisor.self] + Trivisor.configuration.subcommands {
      let whole = Trivisor.helpMessage(for: command, columns: Trivisor.columnsOfWholeLines)
      let text = TerminalText.wrappedHelp(whole, columns: columns)
      let words = text.split { $0 == " " || $0 == "\n" }
      #expect(words == whole.split { $0 == " " || $0 == "\n" })
      for line in text.split(separator: "\n") where line.count > columns {
        #expect(!line.drop { $0 == " " }.contains(" "), "\(line)")
      }
      for line in whole.split(separator: "\n") where line.hasPrefix("  trivisor ") {
        let parts = TerminalText.wrappedHelp(String(line), columns: columns).split(separator: "\n")
        #expect(parts.first?.hasPrefix("  trivisor ") == true)
        #expect(parts.dropFirst().allSatisfy { $0.hasPrefix("    ") })
      }
    }
  }
}
