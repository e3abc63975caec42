import FoundationEssentials
import TrivisorPage
import TrivisorVersion

/// What `trivisor compare --json` writes, and what the page is drawn from: docs/compare.md describes each member.
public struct ComparisonReport: Encodable {
  private struct Technique: Encodable {
    let name: String
    let title: String
    let obstacle: String?
    let caution: String?
    let result: String?
    let runs: [RunSample]
    let medians: [String: Double]
  }

  private struct Table: Encodable {
    struct Row: Encodable {
      let title: String
      let unit: String
      let values: [Spread?]
      let counter: String?
    }

    let rows: [Row]

    init(_ rows: [Comparison.Row]) {
      self.rows = rows.map { Row(title: $0.title, unit: $0.unit, values: $0.values, counter: $0.counter) }
    }
  }

  private let schemaVersion = 1
  private let version = TrivisorVersion.number
  private let commit = TrivisorVersion.commit
  private let date: String
  private let headline: String
  private let guest: String
  private let arguments: [String]
  private let repetitions: Int
  private let warmUps: Int
  private let host: HostDescription
  private let base: String?
  private let baseRemarks: [String]
  private let isSame: Bool
  private let isOverdue: Bool
  private let differences: [String]
  private let techniques: [Technique]
  private let costs: Table
  private let counters: Table
  private let measurements: Table

  /// - Parameters:
  ///   - host: what it ran on.
  ///   - date: when, as 2026-11-28T12:00:00Z.
  public init(_ comparison: Comparison, host: HostDescription, date: String) {
    self.date = date
    headline = comparison.headline
    guest = comparison.plan.image
    arguments = Array(comparison.plan.runArguments.dropFirst())
    repetitions = comparison.plan.repetitions
    warmUps = comparison.plan.warmUps
    self.host = host
    base = comparison.base?.name
    baseRemarks = comparison.baseRemarks
    differences = comparison.differences
    isSame = differences.isEmpty
    isOverdue = comparison.isOverdue
    techniques = comparison.techniques.map { technique in
      var medians: [String: Double] = [:]
      let figures: [(String, (RunSample) -> Double?)] = [
        ("whole", { $0.whole }), ("start", { $0.start }), ("guest", { $0.guest }), ("end", { $0.end }),
        ("firstOutput", { $0.firstOutput }), ("user", { $0.user }), ("system", { $0.system }),
        ("peakResident", { Double($0.peakResident) }),
      ]
      for (name, figure) in figures { medians[name] = technique.spread(figure)?.median }
      return Technique(
        name: technique.name, title: technique.title, obstacle: technique.obstacle, caution: technique.caution,
        result: technique.result?.title, runs: technique.samples, medians: medians)
    }
    costs = Table(comparison.costs)
    counters = Table(comparison.counters)
    measurements = Table(comparison.measurements)
  }

  /// As text, keys in order.
  /// - Throws: what the encoder throws; none of our types makes it.
  public func text() throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    return String(decoding: try encoder.encode(self), as: UTF8.self) + "\n"
  }

  /// As text that may stand in a page's script, whatever a guest wrote.
  func scriptText() throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys]
    return ReportPage.scriptText(String(decoding: try encoder.encode(self), as: UTF8.self))
  }
}
