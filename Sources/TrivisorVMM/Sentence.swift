/// A sentence for the user that may name settings: `"raise \(Setting.memory)"`.
public struct Sentence: Sendable, Hashable, CustomStringConvertible {
  fileprivate enum Part: Sendable, Hashable {
    case text(String)
    case setting(Setting)
  }

  private let parts: [Part]

  private init(parts: [Part]) { self.parts = parts }

  /// A sentence that names no setting.
  public init(_ text: String) { parts = text.isEmpty ? [] : [.text(text)] }

  /// Whether it says nothing.
  public var isEmpty: Bool { parts.isEmpty }

  /// As text, with settings named by their titles.
  public var description: String { text { $0.title } }

  /// As text.
  /// - Parameter name: what the user calls a setting.
  public func text(naming name: (Setting) -> String) -> String {
    var text = ""
    for part in parts {
      switch part {
      case .text(let piece): text += piece
      case .setting(let setting): text += name(setting)
      }
    }
    return text
  }

  /// One behind the other.
  public static func + (first: Sentence, second: Sentence) -> Sentence {
    Sentence(parts: first.parts + second.parts)
  }
}

extension Sentence: ExpressibleByStringInterpolation {
  /// A sentence that names no setting.
  public init(stringLiteral value: String) { self.init(value) }

  /// From the pieces between quotes.
  public init(stringInterpolation: StringInterpolation) { self.init(parts: stringInterpolation.parts) }

  /// The pieces between quotes.
  public struct StringInterpolation: StringInterpolationProtocol {
    fileprivate var parts: [Part] = []

    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    public init(literalCapacity: Int, interpolationCount: Int) {}

    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    public mutating func appendLiteral(_ literal: String) {
      if !literal.isEmpty { parts.append(.text(literal)) }
    }

    /// A setting, named when the sentence is shown.
    public mutating func appendInterpolation(_ setting: Setting) { parts.append(.setting(setting)) }

    /// Another sentence.
    public mutating func appendInterpolation(_ sentence: Sentence) { parts += sentence.parts }

    /// Anything that describes itself.
    public mutating func appendInterpolation(_ value: some CustomStringConvertible) {
      appendLiteral(value.description)
    }
  }
}
