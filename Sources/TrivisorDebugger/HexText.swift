/// Numbers and bytes as the remote protocol writes them: hexadecimal digits, bytes in the order of memory.
enum HexText {
  private static let alphabet = Array("0123456789abcdef".utf8)

  /// The value of a digit, `nil` if it is none.
  static func digit(_ byte: UInt8) -> UInt8? {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
    default: nil
    }
  }

  /// Two digits.
  static func digits(of byte: UInt8) -> [UInt8] { [alphabet[Int(byte >> 4)], alphabet[Int(byte & 15)]] }

  /// Two digits a byte.
  static func digits(of bytes: some Sequence<UInt8>) -> [UInt8] {
    var text: [UInt8] = []
    text.reserveCapacity(2 * bytes.underestimatedCount)
    for byte in bytes {
      text.append(alphabet[Int(byte >> 4)])
      text.append(alphabet[Int(byte & 15)])
    }
    return text
  }

  /// The bytes of two digits each; `nil` where there are others, or an odd number.
  static func bytes(_ text: some Collection<UInt8>) -> [UInt8]? {
    guard text.count % 2 == 0 else { return nil }
    var bytes: [UInt8] = []
    bytes.reserveCapacity(text.count / 2)
    var high: UInt8?
    for character in text {
      guard let value = digit(character) else { return nil }
      if let first = high {
        bytes.append(first << 4 | value)
        high = nil
      } else {
        high = value
      }
    }
    return bytes
  }

  /// A number, the most significant digit first; `nil` where it is none, or too large.
  static func number(_ text: some Collection<UInt8>) -> UInt64? {
    guard !text.isEmpty else { return nil }
    var value: UInt64 = 0
    for character in text {
      guard let digit = digit(character), value >> 60 == 0 else { return nil }
      value = value << 4 | UInt64(digit)
    }
    return value
  }

  /// Without leading zeros.
  static func text(_ value: UInt64) -> String { String(value, radix: 16) }
}

/// Reads the parts of a packet, one after the other.
struct PacketText {
  private var rest: ArraySlice<UInt8>

  init(_ data: ArraySlice<UInt8>) { rest = data }

  var isAtEnd: Bool { rest.isEmpty }

  /// All that is left.
  var remainder: ArraySlice<UInt8> { rest }

  /// Whether this comes next; it is then behind.
  mutating func skip(_ word: String) -> Bool {
    guard rest.starts(with: word.utf8) else { return false }
    rest = rest.dropFirst(word.utf8.count)
    return true
  }

  /// A number of hexadecimal digits; `nil` where there is none, or a larger one than fits.
  mutating func number() -> UInt64? {
    let digits = rest.prefix { HexText.digit($0) != nil }
    rest = rest.dropFirst(digits.count)
    return HexText.number(digits)
  }

  /// What there is before this character, which is then behind with it; all there is where it doesn't come.
  mutating func part(before separator: Character) -> ArraySlice<UInt8> {
    let part = rest.prefix { $0 != separator.asciiValue }
    rest = rest.dropFirst(part.count + 1)
    return part
  }
}
