/// Lines that fit the terminal: broken between words, and set in below where they begin. Somewhere else than on a terminal, a line is a
/// line.
enum TerminalText {
  /// Terminals that are narrower are no place for sentences.
  private static let leastColumns = 20
  private static let hangingIndentation = 2

  /// - Parameter columns: of the terminal.
  static func wrapped(_ text: String, columns: Int) -> String {
    guard columns >= leastColumns else { return text }
    return text.split(separator: "\n", omittingEmptySubsequences: false).map { wrapped(line: $0, columns) }
      .joined(separator: "\n")
  }

  private static func wrapped(line: Substring, _ columns: Int) -> String {
    guard line.count > columns else { return String(line) }
    let indentation = line.prefix { $0 == " " }.count
    let hanging = String(repeating: " ", count: min(indentation + hangingIndentation, columns / 2))
    var lines: [String] = []
    var current = String(line.prefix(indentation))
    var isEmpty = true
    for word in line.dropFirst(indentation).split(separator: " ", omittingEmptySubsequences: false) {
      // A path that is longer than the terminal stays whole.
      if !isEmpty, current.count + 1 + word.count > columns {
        lines.append(current)
        (current, isEmpty) = (hanging, true)
      }
      current += (isEmpty ? "" : " ") + word
      isEmpty = false
    }
    return (lines + [current]).joined(separator: "\n")
  }
}
