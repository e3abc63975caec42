/// The host refused a process.
public struct ProcessFailure: Error, Sendable, CustomStringConvertible {
  /// The call that failed.
  public let call: String
  /// What the host said.
  public let reason: String

  /// One sentence.
  public var description: String { "no process could be made for a guest: \(call): \(reason)" }
}
