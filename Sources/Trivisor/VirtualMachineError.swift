/// Nothing ran.
public enum VirtualMachineError: Error, Sendable, Hashable, CustomStringConvertible {
  /// What the configuration asks for can't be had: every finding.
  case configuration([ConfigurationError])
  /// The host has not got what the machine needs: what, and what to do.
  case host(String)
  /// The machine was started before: make another one.
  case alreadyStarted

  /// One sentence, or one for each finding.
  public var description: String {
    switch self {
    case .configuration(let findings): findings.map(\.description).joined(separator: "\n")
    case .host(let reason): reason
    case .alreadyStarted: "the machine was started before: make another one"
    }
  }
}
