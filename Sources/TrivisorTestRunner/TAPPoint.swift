/// One line that says `ok` or `not ok`, with the points of its subtest.
public struct TAPPoint: Sendable, Equatable, Encodable {
  /// What a directive makes of it.
  public enum Directive: String, Sendable, Encodable {
    /// It was not tried, or does not count.
    case skip
    /// It is expected to fail.
    case todo
  }

  private enum CodingKeys: CodingKey {
    case number, description, isOK, directive, explanation, problem, points
  }

  /// The number that the guest gave, or the one that is due.
  public let number: Int
  /// What it says after the number. A comment that is no directive belongs to it.
  public let description: String
  /// Whether it said `ok`.
  public let isOK: Bool
  /// Whether it is to be skipped, or expected to fail.
  public let directive: Directive?
  /// What the directive says behind its name.
  public var explanation = ""
  /// What its subtest did wrong as a document, where each point alone may be good.
  public var problem: String?
  /// Those of its subtest.
  public var points: [TAPPoint] = []

  /// A point without a subtest.
  init(number: Int, description: String, isOK: Bool, directive: Directive?, explanation: String = "") {
    self.number = number
    self.description = description
    self.isOK = isOK
    self.directive = directive
    self.explanation = explanation
  }

  /// Whether the test as a whole can pass with it. A directive speaks for the subtest too; without one, a point is no
  /// better than what its subtest holds.
  public var isGood: Bool { directive != nil || isOK && problem == nil && points.allSatisfy(\.isGood) }

  /// As reports name it.
  var title: String { description.isEmpty ? "\(number)" : "\(number) \(description)" }

  /// Without what is empty.
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(number, forKey: .number)
    try container.encode(description, forKey: .description)
    try container.encode(isOK, forKey: .isOK)
    try container.encodeIfPresent(directive, forKey: .directive)
    if !explanation.isEmpty { try container.encode(explanation, forKey: .explanation) }
    try container.encodeIfPresent(problem, forKey: .problem)
    if !points.isEmpty { try container.encode(points, forKey: .points) }
  }
}
