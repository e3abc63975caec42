/// Columns as wide as what is in them.
struct TextTable {
  /// One for each row, without spaces at the end.
  let lines: [String]

  /// - Parameter rightAligned: columns of numbers.
  init(_ rows: [[String]], rightAligned: Set<Int> = []) {
    let count = rows.map(\.count).max() ?? 0
    let widths = (0..<count).map { column in rows.map { column < $0.count ? $0[column].count : 0 }.max() ?? 0 }
    lines = rows.map { row in
      var line = ""
      for (column, text) in row.enumerated() {
        let padding = String(repeating: " ", count: widths[column] - text.count)
        line += (column > 0 ? "  " : "") + (rightAligned.contains(column) ? padding + text : text + padding)
      }
      while line.last == " " { line.removeLast() }
      return line
    }
  }
}
