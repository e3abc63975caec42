import TrivisorGuestProcess

/// What a guest came to, as far as it must be the same under every technique.
public struct GuestResult: Sendable, Equatable {
  /// In the words of docs/result.md.
  public let outcome: String
  /// The guest's exit code, if it gave one.
  public let code: UInt8?
  /// What it wrote, line by line, where that must be the same too.
  public let lines: [String]?
  /// What Trivisor says of an end that is no exit code, which may differ.
  public var detail: String?

  /// In words.
  public var title: String { code.map { "\(outcome) \($0)" } ?? outcome }

  private var explanation: String {
    // A crash comes with the processor's state, of which a sentence needs the first line.
    guard code == nil, let reason = detail?.split(separator: "\n").first else { return title }
    return "\(title) (\(reason))"
  }

  /// What is different in another one, in a sentence; `nil` if nothing is.
  public func difference(from other: GuestResult) -> String? {
    if outcome != other.outcome || code != other.code {
      return "it ended with \(explanation) instead of \(other.explanation)"
    }
    guard let lines, let others = other.lines, lines != others else { return nil }
    let index =
      zip(lines, others).enumerated().first { $0.element.0 != $0.element.1 }?.offset ?? min(lines.count, others.count)
    func line(_ lines: [String]) -> String { index < lines.count ? "'\(lines[index])'" : "nothing more" }
    return "line \(index + 1) of its output is \(line(lines)) instead of \(line(others))"
  }
}
