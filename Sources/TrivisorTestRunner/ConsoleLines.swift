/// Cuts a console into lines as they come. Terminal escapes and other control characters don't belong to a line's text.
///
/// A carriage return ends a line as a line feed does: what follows it stands at the line's beginning on a terminal.
/// Escape sequences are those of ECMA-48 (sections 5.3 to 5.6), of ISO 2022 (character sets), and the two of Linux' own
/// console that have no end mark. A line feed ends them all, so that a sequence without its end hides one line at most.
struct ConsoleLines {
  /// Of a longer line only the beginning is looked at.
  static let lengthLimit = 4096

  private enum Escape {
    case none
    /// ESC was read.
    case begun
    /// Intermediate bytes were read: one more ends the sequence, as in `ESC ( B`.
    case intermediate
    /// A control sequence (CSI): parameters, until a byte from `@` on.
    case control
    /// An operating system command (OSC) without its first byte yet.
    case command
    /// The text of OSC, DCS, SOS, PM or APC, until BEL or ST.
    case text
    /// ESC was read in such a text: a backslash makes it ST.
    case textEscape
    /// Linux' palette sequence, `ESC ] P` with seven digits: this many are still to come.
    case palette(Int)
  }

  private var line: [UInt8] = []
  private var escape = Escape.none
  private var followsCarriageReturn = false

  /// Calls `body` with every line that is complete now.
  mutating func append(_ bytes: UnsafeRawBufferPointer, _ body: (ArraySlice<UInt8>) -> Void) {
    for byte in bytes {
      if byte == 0x0a || byte == 0x0d {
        // The line feed of a CR LF ends no line of its own.
        if byte == 0x0d ? !line.isEmpty : !(followsCarriageReturn && line.isEmpty) {
          body(line[...])
          line.removeAll(keepingCapacity: true)
        }
        escape = .none
        followsCarriageReturn = byte == 0x0d
      } else if case .none = escape, byte >= 0x20, byte != 0x7f {
        if line.count < Self.lengthLimit { line.append(byte) }
      } else {
        take(byte)
      }
    }
  }

  /// Calls `body` with what follows the last line's end, if anything does.
  mutating func finish(_ body: (ArraySlice<UInt8>) -> Void) {
    guard !line.isEmpty else { return }
    body(line[...])
    line = []
  }

  /// A control character, or a byte of an escape sequence.
  private mutating func take(_ byte: UInt8) {
    // CAN and SUB break a sequence off.
    guard byte != 0x18, byte != 0x1a else {
      escape = .none
      return
    }
    switch (escape, byte) {
    case (.text, 0x1b), (.command, 0x1b): escape = .textEscape
    case (_, 0x1b): escape = .begun
    case (.text, 0x07), (.command, 0x07), (.textEscape, UInt8(ascii: "\\")): escape = .none
    case (.none, 0x09): if line.count < Self.lengthLimit { line.append(byte) }
    case (.none, _): break
    case (.command, UInt8(ascii: "P")): escape = .palette(7)
    case (.command, UInt8(ascii: "R")): escape = .none
    case (.command, _), (.text, _): escape = .text
    case (.palette(let count), _): escape = count > 1 ? .palette(count - 1) : .none
    case (.control, 0x40...0x7e), (.intermediate, 0x30...0x7e): escape = .none
    case (.begun, UInt8(ascii: "[")), (.textEscape, UInt8(ascii: "[")): escape = .control
    case (.begun, UInt8(ascii: "]")), (.textEscape, UInt8(ascii: "]")): escape = .command
    case (.begun, UInt8(ascii: "P")), (.begun, UInt8(ascii: "X")), (.begun, UInt8(ascii: "^")),
      (.begun, UInt8(ascii: "_")):
      escape = .text
    case (.begun, 0x20...0x2f): escape = .intermediate
    // Control characters inside a sequence are carried out and don't end it.
    case (.begun, 0..<0x20), (.control, _), (.intermediate, _): break
    case (.begun, _), (.textEscape, _): escape = .none
    }
  }
}
