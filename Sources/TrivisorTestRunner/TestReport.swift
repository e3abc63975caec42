import FoundationEssentials
import TrivisorVersion

/// What `trivisor test --json` writes: docs/testing.md describes each member.
public struct TestReport: Encodable {
  private struct Entry: Encodable {
    let name: String
    let verdict: Verdict
    let reason: String?
    let technique: String?
    let outcome: String?
    let guestCode: UInt8?
    let milliseconds: Double
    let attempts: Int
    let artifact: String?
    let points: [TAPPoint]?
    let pointsLeftOut: Int?
    let console: String?
    let errors: String?
  }

  private let schemaVersion = 1
  private let version = TrivisorVersion.number
  private let commit = TrivisorVersion.commit
  private let verdict: Verdict
  private let status: Int32
  private let milliseconds: Double
  private let shard: [String: Int]?
  private let counts: [String: Int]
  private let tests: [Entry]

  /// - Parameters:
  ///   - results: of all tests that were run.
  ///   - verdict: of the whole.
  ///   - status: what the process ends with.
  ///   - wallTime: nanoseconds of the whole.
  ///   - showsConsoles: whether the end of what a guest wrote that did not pass is part of it: for the page.
  public init(
    _ results: [TestResult], verdict: Verdict, status: Int32, wallTime: UInt64, shard: Shard,
    showsConsoles: Bool = false
  ) {
    self.verdict = verdict
    self.status = status
    milliseconds = Double(wallTime) / 1e6
    self.shard = shard == .whole ? nil : ["index": shard.index, "count": shard.count]
    counts = Dictionary(
      uniqueKeysWithValues: Verdict.allCases.map { verdict in
        (verdict.rawValue, results.count { $0.verdict == verdict })
      })
    tests = results.map { result in
      Entry(
        name: result.name, verdict: result.verdict, reason: result.reason.isEmpty ? nil : result.reason,
        technique: result.technique, outcome: result.outcome, guestCode: result.guestCode,
        milliseconds: Double(result.wallTime) / 1e6, attempts: result.attempts, artifact: result.artifact,
        points: result.points.isEmpty ? nil : result.points,
        pointsLeftOut: result.pointsLeftOut == 0 ? nil : result.pointsLeftOut,
        console: showsConsoles && !result.verdict.isGood && !result.consoleTail.isEmpty
          ? Self.printable(String(decoding: result.consoleTail, as: UTF8.self)) : nil,
        errors: showsConsoles && !result.verdict.isGood && !result.errors.isEmpty ? Self.printable(result.errors) : nil)
    }
  }

  /// Without what would move a terminal's cursor, but for ends of lines: the last forty of them.
  private static func printable(_ text: String) -> String {
    let lines = text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline).suffix(40)
    return lines.map { line in
      String(String.UnicodeScalarView(line.unicodeScalars.filter { $0.properties.generalCategory != .control }))
    }.joined(separator: "\n")
  }

  /// As text, keys in order.
  /// - Throws: what the encoder throws; none of our types makes it.
  public func text() throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    return String(decoding: try encoder.encode(self), as: UTF8.self) + "\n"
  }
}
