/// The answer of a comparison in one sentence.
enum Headline {
  /// Times that differ by less than this part are the same.
  private static let indifference = 1.05

  /// Without a full stop.
  static func of(_ comparison: Comparison) -> String {
    let guest = comparison.plan.image
    guard comparison.differences.isEmpty else { return "\(guest): the results differ" }
    let times = comparison.ran.compactMap { technique in
      technique.spread(\.whole).map { (technique: technique, median: $0.median) }
    }.sorted { $0.median < $1.median }
    guard let best = times.first else { return "\(guest): no technique could run it" }
    guard times.count > 1 else {
      return "\(best.technique.title) ran \(guest) in \(ComparisonText.decimal(best.median, 1)) ms, and no other could"
    }
    let slower = times.filter { $0.median > best.median * indifference }
    let equal = times.filter { $0.median <= best.median * indifference }.map(\.technique.title)
    let subject = equal.joined(separator: " and ")
    guard !slower.isEmpty else { return "\(subject) ran \(guest) in the same time" }
    let parts = slower.map { other in
      let factor = other.median / best.median
      let how = factor < 10 ? ComparisonText.decimal(factor, 1) : ComparisonText.count(factor)
      // Its title says it already where the technique has several ways.
      let caution = other.technique.manner == nil ? other.technique.caution : nil
      let reason = caution.map { ", because \($0)" } ?? ""
      return "\(how) times as fast as \(other.technique.title)\(reason)"
    }
    return "\(subject) ran \(guest) \(parts.joined(separator: ", and "))"
  }
}
