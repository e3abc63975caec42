extension DifferentialTester {
  /// What has been compared so far.
  public func report(printsTable: Bool) -> String {
    let tally = tally
    let total = tally.same + tally.different + tally.skipped + tally.unstable + tally.unsupported.values.reduce(0, +)
    let executions = tally.executions.reduce(0, +)
    let unsupported = tally.unsupported.values.reduce(0, +)
    var lines = [
      "\(total) cases: \(tally.same) the same, \(tally.different) different, \(unsupported) not supported, "
        + "\(tally.skipped) without an end, \(tally.unstable) different only once",
      "\(tally.executions.count) kinds of instructions, \(executions) executions, at least "
        + "\(tally.executions.min() ?? 0) of each",
      "ended by exceptions: "
        + tally.vectors.sorted { $0.key < $1.key }.map { "\($0.key): \($0.value)" }.joined(separator: ", "),
    ]
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
