/// How a command in a guest ended.
public enum CommandStatus: Sendable, Equatable {
  /// By itself, with this status.
  case exited(UInt8)
  /// Signal number so and so killed it.
  case killed(signal: UInt8)

  /// As a shell gives it: 128 + the signal's number.
  public var code: UInt8 {
    switch self {
    case .exited(let code): code
    case .killed(let signal): 128 | signal
    }
  }

  /// A status frame's contents.
  public var contents: [UInt8] {
    switch self {
    case .exited(let code): [0, code]
    case .killed(let signal): [1, signal]
    }
  }

  /// - Parameter contents: a status frame's, how and with which number.
  init?(_ contents: [UInt8]) {
    guard contents.count == 2 else { return nil }
    switch contents[0] {
    case 0: self = .exited(contents[1])
    case 1 where (1...127).contains(contents[1]): self = .killed(signal: contents[1])
    default: return nil
    }
  }
}
