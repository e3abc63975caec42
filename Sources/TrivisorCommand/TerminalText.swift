/// Lines that fit the terminal: broken between words, and set in below where they begin. Somewhere else than on a terminal, a sentence is
/// one line, and a help text has 80 columns.
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

  /// Where the parser puts what an option means.
  private static let columnOfMeaning = 26
  /// A meaning that has less room than this goes on further left.
  private static let leastTextColumns = 16

  /// A help text whose lines are whole yet: paragraphs go on where they began, examples further in, and what an option means below
  /// where its meaning begins.
  /// - Parameter columns: of the terminal.
  static func wrappedHelp(_ text: String, columns: Int) -> String {
    guard columns >= leastColumns else { return text }
    return text.split(separator: "\n", omittingEmptySubsequences: false).map { line in
      wrapped(line: line, columns, hanging: hangingOfHelp(line, columns))
    }.joined(separator: "\n")
  }

  private static func hangingOfHelp(_ line: Substring, _ columns: Int) -> Int {
    let indentation = line.prefix { $0 == " " }.count
    if indentation == 0 { return line.hasPrefix(usage) ? usage.count : 0 }
    // An option and its meaning, or a command and what it is for: two columns.
    let text = line.dropFirst(indentation)
    if let gap = text.firstRange(of: "  "), let meaning = text[gap.upperBound...].firstIndex(where: { $0 != " " }) {
      let column = line.distance(from: line.startIndex, to: meaning)
      if column + leastTextColumns <= columns { return column }
    } else if text.first == "-", line.dropFirst(columnOfMeaning - 1).first == " ",
      columnOfMeaning + leastTextColumns <= columns
    {
      // An option that takes all of its column has one blank behind it.
      return columnOfMeaning
    }
    let isMeaning = indentation == columnOfMeaning && indentation + leastTextColumns <= columns
    return isMeaning ? indentation : hangingIndentation * 2
  }

  private static let usage = "USAGE: "

  private static func wrapped(line: Substring, _ columns: Int) -> String {
    let indentation = line.prefix { $0 == " " }.count
    return wrapped(line: line, columns, hanging: min(indentation + hangingIndentation, columns / 2))
  }

  private static func wrapped(line: Substring, _ columns: Int, hanging: Int) -> String {
    guard line.count > columns else { return String(line) }
    let indentation = line.prefix { $0 == " " }.count
    let hanging = String(repeating: " ", count: hanging)
    var lines: [String] = []
    var current = String(line.prefix(min(indentation, columns - leastTextColumns)))
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
