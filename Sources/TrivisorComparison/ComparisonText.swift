/// The report for a terminal.
public enum ComparisonText {
  /// A table as rows of cells: the first is the head, the first column the titles.
  public typealias Table = [[String]]

  /// Times and memory; then events by cause; then what the guest measured, with the ratios to the base.
  public static func tables(_ comparison: Comparison) -> [(title: String, rows: Table)] {
    let names = comparison.ran.map(\.title)
    var tables: [(String, Table)] = []
    let results = ["result"] + comparison.ran.map { $0.result?.title ?? "" }
    let base = names.count > 1 ? comparison.base.map { "; × how many times \($0.title)'s" } ?? "" : ""
    func rows(_ rows: [Comparison.Row], _ cell: (Spread, Comparison.Row) -> String) -> Table {
      rows.map { row in
        [row.title]
          + row.values.enumerated().map { index, value in
            guard let value else { return "–" }
            return cell(value, row) + (comparison.ratio(row, index).map { " (×\(ratio($0)))" } ?? "")
          }
      }
    }
    tables.append(
      (
        "median, smallest to largest, of \(comparison.plan.repetitions) runs\(base)",
        [[""] + names, results]
          + rows(comparison.costs) { value, row in
            "\(decimal(value.median, 1)) \(row.unit), \(decimal(value.minimum, 1))–\(decimal(value.maximum, 1))"
          }
      ))
    let counters = comparison.counters
    if !counters.isEmpty {
      tables.append(("events, median\(base)", [[""] + names] + rows(counters) { value, _ in count(value.median) }))
    }
    let measurements = comparison.measurements
    if !measurements.isEmpty {
      tables.append(
        (
          "measured by the guest: cycles\(base)",
          [[""] + names] + rows(measurements) { value, _ in count(value.median) }
        ))
    }
    return tables
  }

  /// Whole numbers in groups of three.
  static func count(_ value: Double) -> String {
    guard value < 1e15 else { return "\(value)" }
    var digits = String(UInt64(max(value, 0).rounded()))
    var groups: [Substring] = []
    while digits.count > 3 {
      groups.insert(digits.suffix(3), at: 0)
      digits = String(digits.dropLast(3))
    }
    return ([Substring(digits)] + groups).joined(separator: " ")
  }

  /// With two decimals, or as many as it takes for two digits.
  static func ratio(_ value: Double) -> String {
    guard value > 0, value < 0.1 else { return decimal(value, 2) }
    return decimal(value, value < 0.001 ? 5 : value < 0.01 ? 4 : 3)
  }

  /// With this many decimals, whatever the locale.
  static func decimal(_ value: Double, _ places: Int) -> String {
    var scale = 1.0
    for _ in 0..<places { scale *= 10 }
    guard value.isFinite, abs(value) < 1e15 else { return "\(value)" }
    let scaled = UInt64((abs(value) * scale).rounded())
    let fraction = String(scaled % UInt64(scale))
    return "\(scaled / UInt64(scale))." + String(repeating: "0", count: places - fraction.count) + fraction
  }
}
