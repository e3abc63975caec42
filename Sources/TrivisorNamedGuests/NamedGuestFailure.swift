/// Why a running guest can't be given a name, or can't be reached by it.
public struct NamedGuestFailure: Error, Sendable, Equatable, CustomStringConvertible {
  /// What is wrong.
  public enum Kind: Sendable, Equatable {
    /// The name, or that there is no such guest, or that there is one already.
    case usage
    /// The host refuses something.
    case host
  }

  /// What is wrong.
  public let kind: Kind
  /// One sentence.
  public let description: String

  init(_ kind: Kind, _ description: String) {
    self.kind = kind
    self.description = description
  }
}
