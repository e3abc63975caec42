/// A JSON text (RFC 8259), as far as images need it: from anybody, so bounded in depth.
package indirect enum JSONValue: Equatable {
  case null
  case boolean(Bool)
  case number(Double)
  case string(String)
  case array([JSONValue])
  case object([String: JSONValue])

  private static let depthLimit = 64

  /// - Returns: `nil` for what is no JSON.
  package init?(_ text: [UInt8]) {
    var parser = Parser(text: text)
    guard let value = parser.value(depth: 0) else { return nil }
    parser.skipSpace()
    guard parser.position == text.count else { return nil }
    self = value
  }

  subscript(_ name: String) -> JSONValue? {
    if case .object(let members) = self { members[name] } else { nil }
  }

  var string: String? { if case .string(let text) = self { text } else { nil } }
  var array: [JSONValue]? { if case .array(let values) = self { values } else { nil } }
  /// Of an array of strings.
  var strings: [String]? {
    guard let array else { return nil }
    let texts = array.compactMap(\.string)
    return texts.count == array.count ? texts : nil
  }

  private struct Parser {
    let text: [UInt8]
    var position = 0

    private var current: UInt8? { position < text.count ? text[position] : nil }

    mutating func skipSpace() {
      while let byte = current, [0x20, 0x09, 0x0a, 0x0d].contains(byte) { position += 1 }
    }

    private mutating func take(_ character: Unicode.Scalar) -> Bool {
      skipSpace()
      guard current == UInt8(ascii: character) else { return false }
      position += 1
      return true
    }

    private mutating func take(word: StaticString) -> Bool {
      guard text.count - position >= word.utf8CodeUnitCount else { return false }
      for index in 0..<word.utf8CodeUnitCount where text[position + index] != word.utf8Start[index] { return false }
      position += word.utf8CodeUnitCount
      return true
    }

    mutating func value(depth: Int) -> JSONValue? {
      guard depth < JSONValue.depthLimit else { return nil }
      skipSpace()
      switch current {
      case UInt8(ascii: "{"): return object(depth)
      case UInt8(ascii: "["): return array(depth)
      case UInt8(ascii: "\""): return string().map { .string($0) }
      case UInt8(ascii: "t"): return take(word: "true") ? .boolean(true) : nil
      case UInt8(ascii: "f"): return take(word: "false") ? .boolean(false) : nil
      case UInt8(ascii: "n"): return take(word: "null") ? .null : nil
      default: return number()
      }
    }

    private mutating func object(_ depth: Int) -> JSONValue? {
      guard take("{") else { return nil }
      var members: [String: JSONValue] = [:]
      if take("}") { return .object(members) }
      repeat {
        skipSpace()
        guard let name = string(), take(":"), let value = value(depth: depth + 1) else { return nil }
        members[name] = value
      } while take(",")
      return take("}") ? .object(members) : nil
    }

    private mutating func array(_ depth: Int) -> JSONValue? {
      guard take("[") else { return nil }
      var values: [JSONValue] = []
      if take("]") { return .array(values) }
      repeat {
        guard let value = value(depth: depth + 1) else { return nil }
        values.append(value)
      } while take(",")
      return take("]") ? .array(values) : nil
    }

    private mutating func number() -> JSONValue? {
      let start = position
      while let byte = current,
        byte == 0x2b || byte == 0x2d || byte == 0x2e || byte | 0x20 == 0x65 || 0x30...0x39 ~= byte
      {
        position += 1
      }
      return Double(String(decoding: text[start..<position], as: UTF8.self)).map { .number($0) }
    }

    private mutating func string() -> String? {
      guard current == UInt8(ascii: "\"") else { return nil }
      position += 1
      var bytes: [UInt8] = []
      while let byte = current {
        position += 1
        switch byte {
        case UInt8(ascii: "\""): return String(validating: bytes, as: UTF8.self)
        case UInt8(ascii: "\\"):
          guard let character = escape() else { return nil }
          bytes += Array(String(character).utf8)
        case 0..<0x20: return nil
        default: bytes.append(byte)
        }
      }
      return nil
    }

    private mutating func escape() -> Unicode.Scalar? {
      guard let byte = current else { return nil }
      position += 1
      switch byte {
      case UInt8(ascii: "n"): return "\n"
      case UInt8(ascii: "t"): return "\t"
      case UInt8(ascii: "r"): return "\r"
      case UInt8(ascii: "b"): return "\u{8}"
      case UInt8(ascii: "f"): return "\u{c}"
      case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return Unicode.Scalar(byte)
      case UInt8(ascii: "u"):
        guard let first = hexadecimal() else { return nil }
        guard 0xd800...0xdbff ~= first else { return Unicode.Scalar(first) }
        guard take(word: "\\u"), let second = hexadecimal(), 0xdc00...0xdfff ~= second else { return nil }
        return Unicode.Scalar(0x1_0000 + (first - 0xd800) << 10 + (second - 0xdc00))
      default: return nil
      }
    }

    private mutating func hexadecimal() -> UInt32? {
      guard position + 4 <= text.count else { return nil }
      defer { position += 4 }
      return UInt32(String(decoding: text[position..<(position + 4)], as: UTF8.self), radix: 16)
    }
  }
}
