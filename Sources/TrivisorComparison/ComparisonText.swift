/// The report for a terminal.
public enum ComparisonText {
  /// A table as rows of cells: the first is the head, the first column the titles.
  public typealias Table = [[String]]

  /// Times and memory; then events by cause; then what the guest measured, with the ratio to the first technique.
  public static func tables(_ comparison: Comparison) -> [(title: String, rows: Table)] {
    let names = comparison.ran.map(\.name)
    var tables: [(String, Table)] = []
    let results = ["result"] + comparison.ran.map { $0.result?.title ?? "" }
    tables.append(
      (
        "median (smallest to largest) of \(comparison.plan.repetitions) runs",
        [[""] + names, results] + comparison.costs.map { row in [row.title] + row.values.map { cell($0, row.unit) } }
      ))
    let counters = comparison.counters
    if !counters.isEmpty {
      tables.append(
        (
          "events, median",
          [[""] + names]
            + counters.map { row in
              [row.title] + row.values.map { $0.map { count($0.median) } ?? "–" }
            }
        ))
    }
    let measurements = comparison.measurements
    if !measurements.isEmpty {
      tables.append(
        (
          "measured by the guest: cycles, and times as many as the first",
          [[""] + names]
            + measurements.map { row in
              let first = row.values.first.flatMap { $0?.median }
              return [row.title]
                + row.values.enumerated().map { index, value in
                  guard let value else { return "–" }
                  guard index > 0, let first, first > 0 else { return count(value.median) }
                  return "\(count(value.median)) (×\(ratio(value.median / first)))"
                }
            }
        ))
    }
    return tables
  }

  private static func cell(_ spread: Spread?, _ unit: String) -> String {
    guard let spread else { return "–" }
    return "\(decimal(spread.median, 1)) \(unit) (\(decimal(spread.minimum, 1))–\(decimal(spread.maximum, 1)))"
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
