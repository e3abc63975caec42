/// What stands behind the number of a test point: a description, and perhaps a directive.
struct TAPText: Equatable {
  /// Without the directive; `\#` and `\\` stand for the second character.
  let description: String
  /// The part of the description before a comment that is no directive, as in `ok 3 name # time=5ms`.
  let name: String
  let directive: TAPPoint.Directive?
  /// What follows the directive.
  let explanation: String
  /// All of it as it is, without blanks around.
  let whole: String

  /// Of a description, nobody reads more bytes.
  private static let lengthLimit = 1024

  /// A directive follows the first `#` that has a blank on either side and is not escaped (TAP 14, "Directives"): it begins
  /// with one of the two words that `Directive` has, in any case.
  init(_ text: ArraySlice<UInt8>) {
    whole = Self.trimmed(text)
    guard let mark = Self.commentMark(text) else {
      description = Self.unescaped(text)
      name = description
      (directive, explanation) = (nil, "")
      return
    }
    name = Self.unescaped(text[..<mark])
    let comment = text[(mark + 1)...].drop(while: \.isBlank)
    directive =
      if Self.isWord("todo", at: comment) { .todo } else if Self.isWord("skip", at: comment) { .skip } else { nil }
    description = directive == nil ? Self.unescaped(text) : name
    explanation = directive == nil ? "" : Self.unescaped(comment.dropFirst(4).drop { $0 == UInt8(ascii: ":") })
  }

  /// Without blanks around.
  static func trimmed(_ bytes: ArraySlice<UInt8>) -> String {
    var bytes = bytes.drop(while: \.isBlank)
    while bytes.last?.isBlank ?? false { bytes = bytes.dropLast() }
    return String(decoding: bytes.prefix(lengthLimit), as: UTF8.self)
  }

  private static func commentMark(_ text: ArraySlice<UInt8>) -> Int? {
    var previous: UInt8?
    for index in text.indices {
      let byte = text[index]
      // An escaped mark follows a backslash and no blank.
      if byte == UInt8(ascii: "#"), previous?.isBlank ?? false, index + 1 < text.endIndex, text[index + 1].isBlank {
        return index
      }
      previous = byte
    }
    return nil
  }

  private static func isWord(_ word: StaticString, at text: ArraySlice<UInt8>) -> Bool {
    guard text.starts(with: word, inAnyCase: true) else { return false }
    return !(text.dropFirst(word.utf8CodeUnitCount).first?.isWord ?? false)
  }

  /// Without blanks around, and with `\\#` and `\\\\` as the characters that they stand for.
  static func unescaped(_ bytes: ArraySlice<UInt8>) -> String {
    guard bytes.contains(UInt8(ascii: "\\")) else { return trimmed(bytes) }
    var result: [UInt8] = []
    var isEscaped = false
    for byte in bytes {
      if isEscaped, byte != UInt8(ascii: "#"), byte != UInt8(ascii: "\\") { result.append(UInt8(ascii: "\\")) }
      isEscaped = byte == UInt8(ascii: "\\") && !isEscaped
      if !isEscaped { result.append(byte) }
    }
    if isEscaped { result.append(UInt8(ascii: "\\")) }
    return trimmed(result[...])
  }
}

extension UInt8 {
  /// Space or tab.
  var isBlank: Bool { self == 0x20 || self == 0x09 }

  /// A letter, a digit, an underscore, or a byte of a character beyond ASCII.
  var isWord: Bool {
    switch self {
    case 0x30...0x39, 0x41...0x5a, 0x61...0x7a, UInt8(ascii: "_"), 0x80...: true
    default: false
    }
  }
}

extension ArraySlice<UInt8> {
  /// Whether ASCII text is at the front.
  func starts(with prefix: StaticString, inAnyCase: Bool) -> Bool {
    guard count >= prefix.utf8CodeUnitCount else { return false }
    return prefix.withUTF8Buffer { wanted in
      zip(wanted, self).allSatisfy { inAnyCase ? $0.lowercased == $1.lowercased : $0 == $1 }
    }
  }
}

extension UInt8 {
  private var isUppercase: Bool { (0x41...0x5a).contains(self) }
  fileprivate var lowercased: UInt8 { isUppercase ? self | 0x20 : self }
}
