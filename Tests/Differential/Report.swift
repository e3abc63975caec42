extension DifferentialTester {
  /// In so many cases each class has occurred where it was found.
  private static let casesForEachClass = 500_000

  /// What has been compared so far.
  public func report(printsTable: Bool) -> String {
    let tally = tally
    let known = tally.known.values.reduce(0, +)
    let unsupported = tally.unsupported.values.reduce(0, +)
    let total = known + tally.same + tally.different + tally.skipped + tally.unstable + unsupported
    let executions = tally.executions.reduce(0, +)
    var lines = [
      "\(total) cases: \(tally.same) the same, \(known) different as this host is known to be, "
        + "\(tally.different) different otherwise, \(unsupported) not supported, "
        + "\(tally.skipped) without an end, \(tally.unstable) different only once",
      "\(tally.executions.count) kinds of instructions, \(executions) executions, at least "
        + "\(tally.executions.min() ?? 0) of each",
      "ended by exceptions: "
        + tally.vectors.sorted { $0.key < $1.key }.map { "\($0.key): \($0.value)" }.joined(separator: ", "),
    ]
    for (difference, count) in tally.known.sorted(by: { $0.value > $1.value }) {
      lines.append("known of this host: \(difference.rawValue): \(count)")
    }
    // What is written about this vendor may not be true of this processor.
    let never = HostDifference.expected(on: vendor).filter { tally.known[$0] == nil }
    if total >= Self.casesForEachClass, !never.isEmpty {
      lines.append("a finding: never met on this host: \(never.map(\.rawValue).joined(separator: ", "))")
    }
    let missing = zip(generator.kinds, tally.executions).filter { $0.1 == 0 }.map(\.0.name)
    if !missing.isEmpty { lines.append("never executed: \(missing.count): \(missing.joined(separator: "; "))") }
    for (name, count) in tally.unsupported.sorted(by: { $0.value > $1.value }) {
      lines.append("not supported: \(name): \(count)")
    }
    if printsTable {
      for (kind, count) in zip(generator.kinds, tally.executions) {
        lines.append("\(count)\t\(kind.feature)\t\(kind.name)")
      }
    }
    return lines.joined(separator: "\n")
  }
}
