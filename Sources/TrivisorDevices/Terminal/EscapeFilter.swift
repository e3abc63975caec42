/// What a key typed at the host's terminal means, one byte at a time.
///
/// The terminal is raw, so every key arrives here, and nearly all of them are the guest's. Ctrl-A announces a command to
/// the monitor. Ctrl-C is the guest's if the guest reads input at all; else it is what it always is at a terminal, so
/// that a guest that hangs, or never looked at its keyboard, can be ended as any program.
public struct EscapeFilter: Sendable {
  /// What is to be done with a byte.
  public enum Action: Sendable, Equatable {
    /// The guest gets this byte.
    case pass(UInt8)
    /// Ends the machine, by the user's wish.
    case quit
    /// Ends the machine as SIGINT does.
    case interrupt
    /// Shows `help`.
    case help
    /// The byte was the beginning of a command, or of none that exists.
    case swallow
  }

  /// Ctrl-A.
  public static let prefix: UInt8 = 0x01
  /// Ctrl-C.
  public static let interruptCharacter: UInt8 = 0x03

  /// Lines for the terminal, each ended by a line feed.
  public static let help = """
    Ctrl-A x   end the machine
    Ctrl-A a   send Ctrl-A to the guest (as does Ctrl-A Ctrl-A)
    Ctrl-A h   show this help (as does Ctrl-A ?)
    Ctrl-C     goes to the guest if it reads input, else ends the machine

    """

  private var isInCommand = false

  /// Outside a command.
  public init() {}

  /// - Parameter guestIsListening: whether the guest reads what is typed, see `SerialPort16550.isListening`.
  public mutating func filter(_ byte: UInt8, guestIsListening: Bool) -> Action {
    if byte == Self.interruptCharacter {
      isInCommand = false
      return guestIsListening ? .pass(byte) : .interrupt
    }
    guard isInCommand else {
      if byte != Self.prefix { return .pass(byte) }
      isInCommand = true
      return .swallow
    }
    isInCommand = false
    switch byte {
    case UInt8(ascii: "x"), UInt8(ascii: "X"): return .quit
    case UInt8(ascii: "a"), UInt8(ascii: "A"), Self.prefix: return .pass(Self.prefix)
    case UInt8(ascii: "h"), UInt8(ascii: "H"), UInt8(ascii: "?"): return .help
    default: return .swallow
    }
  }
}
