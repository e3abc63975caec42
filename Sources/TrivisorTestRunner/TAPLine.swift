// What one line of a console says in the Test Anything Protocol: the specifications of TAP 12, 13 and 14
// (testanything.org) and of KTAP 1 (Linux, Documentation/dev-tools/ktap.rst). Where they leave a choice, a line is read so
// that nothing turns good by it: `ok` and directives are recognised narrowly, `not ok` and `Bail out!` widely.

/// A line's meaning, and where it stands.
struct TAPLine {
  enum Content: Equatable {
    /// `TAP version 14`, `KTAP version 1`.
    case version(isKTAP: Bool)
    /// `# Subtest: name`
    case header(name: String)
    /// `1..count`; a count beyond all sense is `Int.max`.
    case plan(count: Int, comment: String)
    /// `ok` or `not ok`; a number beyond all sense is `Int.max`.
    case point(isOK: Bool, number: Int?, text: TAPText)
    /// `Bail out!`
    case bailOut(reason: String)
    /// `---`
    case blockBegin
    /// `...`
    case blockEnd
    case blank
    /// Somebody else's.
    case other
  }

  /// How many columns one `#` indents. The subtests in comments lie deeper than all others of their place.
  private static let columnsOfComment = ConsoleLines.lengthLimit * 4
  /// More than that nobody nests.
  private static let commentLimit = 8

  /// Columns, with those that each `#` stands for. A tab takes a line to the next multiple of four.
  let indentation: Int
  /// The column of its first character that is no blank.
  let column: Int
  /// How many `#` stand before it: Linux' runner of selftests puts them before each line of a test's own output.
  let comments: Int
  let content: Content

  /// Reads a line, without its end.
  init(_ line: ArraySlice<UInt8>) {
    var text = Self.withoutLogPrefix(line)
    var columns = Self.takeBlanks(&text)
    column = columns
    var comments = 0
    while text.first == UInt8(ascii: "#"), comments < Self.commentLimit {
      if let name = Self.subtestName(text) {
        (indentation, self.comments, content) = (columns, comments, .header(name: name))
        return
      }
      text = text.dropFirst()
      if text.first == 0x20 { text = text.dropFirst() }
      comments += 1
      columns += Self.columnsOfComment + Self.takeBlanks(&text)
    }
    (indentation, self.comments, content) = (columns, comments, Self.content(text))
  }

  private static func content(_ text: ArraySlice<UInt8>) -> Content {
    var rest = text
    switch text.first {
    case nil: return .blank
    case UInt8(ascii: "o"):
      // "okay" is a word and no test point, and "ok: ready" is what a driver says.
      guard rest.take("ok"), rest.first?.isBlank ?? true else { return .other }
      return point(rest, isOK: true)
    case UInt8(ascii: "n"):
      guard rest.take("not ok"), !(rest.first?.isWord ?? false) else { return .other }
      return point(rest, isOK: false)
    case UInt8(ascii: "1"):
      return rest.take("1..") ? plan(rest) : .other
    case UInt8(ascii: "B"), UInt8(ascii: "b"):
      return rest.take("bail out!", inAnyCase: true) ? .bailOut(reason: TAPText(rest).whole) : .other
    case UInt8(ascii: "T"), UInt8(ascii: "t"), UInt8(ascii: "K"), UInt8(ascii: "k"):
      let isKTAP = rest.take("KTAP version ", inAnyCase: true)
      guard isKTAP || rest.take("TAP version ", inAnyCase: true) else { return .other }
      let isNumber = rest.first?.isDigit ?? false
      return isNumber && rest.drop(while: \.isDigit).allSatisfy(\.isBlank) ? .version(isKTAP: isKTAP) : .other
    case UInt8(ascii: "-"):
      return rest.take("---") && (rest.first?.isBlank ?? true) ? .blockBegin : .other
    case UInt8(ascii: "."):
      return rest.take("...") && rest.allSatisfy(\.isBlank) ? .blockEnd : .other
    default: return .other
    }
  }

  /// What follows `1..`.
  private static func plan(_ text: ArraySlice<UInt8>) -> Content {
    guard let (count, tail) = number(text) else { return .other }
    let rest = tail.drop(while: \.isBlank)
    // "1..5 apples" is no plan.
    guard rest.isEmpty || rest.first == UInt8(ascii: "#") else { return .other }
    return .plan(count: count, comment: TAPText(rest.dropFirst()).whole)
  }

  /// What follows `ok` or `not ok`.
  private static func point(_ text: ArraySlice<UInt8>, isOK: Bool) -> Content {
    var rest = text
    var number: Int?
    // "ok 2nd try" has no number.
    if let (value, tail) = Self.number(rest.drop(while: \.isBlank)), !(tail.first?.isWord ?? false) {
      number = value
      rest = tail
    }
    let dash = rest.drop(while: \.isBlank)
    if dash.first == UInt8(ascii: "-"), dash.dropFirst().first?.isBlank ?? true { rest = dash.dropFirst() }
    return .point(isOK: isOK, number: number, text: TAPText(rest))
  }

  /// Decimal digits and what follows them; `Int.max` for more than fit.
  private static func number(_ text: ArraySlice<UInt8>) -> (value: Int, tail: ArraySlice<UInt8>)? {
    let digits = text.prefix(while: \.isDigit)
    guard !digits.isEmpty else { return nil }
    return (Int(String(decoding: digits, as: UTF8.self)) ?? Int.max, text.dropFirst(digits.count))
  }

  /// The name in `# Subtest: name`; it may be empty.
  private static func subtestName(_ text: ArraySlice<UInt8>) -> String? {
    var rest = text
    guard rest.take("# Subtest") else { return nil }
    if rest.allSatisfy(\.isBlank) { return "" }
    return rest.take(":") ? TAPText.unescaped(rest) : nil
  }

  private static func takeBlanks(_ text: inout ArraySlice<UInt8>) -> Int {
    var columns = 0
    while let byte = text.first, byte.isBlank {
      columns = byte == 0x09 ? (columns / 4 + 1) * 4 : columns + 1
      text = text.dropFirst()
    }
    return columns
  }

  /// Takes off what Linux puts before a line of its log: `<6>`, `[   12.345678]`, `[    T1]` or `[     C0]`, and a space.
  private static func withoutLogPrefix(_ line: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
    var text = line
    if text.first == UInt8(ascii: "<") {
      let level = text.dropFirst().prefix(while: \.isDigit)
      let rest = text[level.endIndex...]
      if (1...3).contains(level.count), rest.first == UInt8(ascii: ">") { text = rest.dropFirst() }
    }
    guard let time = bracketed(text), isTime(time) else { return text }
    text = text[(time.endIndex + 1)...]
    if let caller = bracketed(text), isCaller(caller) { text = text[(caller.endIndex + 1)...] }
    return text.first == 0x20 ? text.dropFirst() : text
  }

  private static func bracketed(_ text: ArraySlice<UInt8>) -> ArraySlice<UInt8>? {
    guard text.first == UInt8(ascii: "["), let end = text.prefix(32).firstIndex(of: UInt8(ascii: "]")) else {
      return nil
    }
    return text[(text.startIndex + 1)..<end]
  }

  private static func isTime(_ text: ArraySlice<UInt8>) -> Bool {
    let seconds = text.drop { $0 == 0x20 }.prefix(while: \.isDigit)
    let rest = text[seconds.endIndex...]
    return !seconds.isEmpty && rest.first == UInt8(ascii: ".") && rest.count > 1
      && rest.dropFirst().allSatisfy(\.isDigit)
  }

  private static func isCaller(_ text: ArraySlice<UInt8>) -> Bool {
    let name = text.drop { $0 == 0x20 }
    guard name.first == UInt8(ascii: "T") || name.first == UInt8(ascii: "C") else { return false }
    return name.count > 1 && name.dropFirst().allSatisfy(\.isDigit)
  }
}

extension UInt8 {
  fileprivate var isDigit: Bool { (0x30...0x39).contains(self) }
}

extension ArraySlice<UInt8> {
  /// Takes `prefix` off the front if it is there.
  fileprivate mutating func take(_ prefix: StaticString, inAnyCase: Bool = false) -> Bool {
    guard starts(with: prefix, inAnyCase: inAnyCase) else { return false }
    self = dropFirst(prefix.utf8CodeUnitCount)
    return true
  }
}
