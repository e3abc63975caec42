/// Cuts a console into lines as they come. Carriage returns and terminal escapes don't belong to a line's text.
struct ConsoleLines {
  /// Of a longer line only the beginning is looked at.
  static let lengthLimit = 4096

  private enum Escape {
    case none, begun, inSequence
  }

  private var line: [UInt8] = []
  private var escape = Escape.none

  /// Calls `body` with every line that is complete now.
  mutating func append(_ bytes: UnsafeRawBufferPointer, _ body: (ArraySlice<UInt8>) -> Void) {
    for byte in bytes {
      switch (escape, byte) {
      case (_, 0x0a):
        body(line[...])
        line.removeAll(keepingCapacity: true)
        escape = .none
      case (_, 0x1b): escape = .begun
      // ECMA-48: a control sequence ends with a byte from @ on.
      case (.begun, UInt8(ascii: "[")): escape = .inSequence
      case (.begun, _): escape = .none
      case (.inSequence, 0x40...0x7e): escape = .none
      case (.inSequence, _): break
      case (.none, 0x0d), (.none, 0): break
      default: if line.count < Self.lengthLimit { line.append(byte) }
      }
    }
  }

  /// Calls `body` with what follows the last line feed, if anything does.
  mutating func finish(_ body: (ArraySlice<UInt8>) -> Void) {
    guard !line.isEmpty else { return }
    body(line[...])
    line = []
  }
}
