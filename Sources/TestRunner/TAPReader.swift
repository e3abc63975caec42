// The Test Anything Protocol (testanything.org, versions 12 to 14) in a console among other lines.
//
//     TAP version 14
//     1..3
//     ok 1 - the first
//     not ok 2 - the second # TODO not yet
//     ok 3 # SKIP no such device
//     Bail out! the machine is on fire
//
// TODO and SKIP are the protocol's directives: a point that may fail, and one that was not tried.
//
// Lines that are no TAP are somebody else's, as the protocol says. Indented lines are subtests, for which their parent's
// line speaks. Linux' own tests put the kernel's time stamp in front of each line; it is taken off.

/// One line that says `ok` or `not ok`.
public struct TAPPoint: Sendable, Equatable, Encodable {
  /// What a directive makes of it.
  public enum Directive: String, Sendable, Encodable {
    case skip, todo
  }

  /// The number that the guest gave, or the one that is due.
  public let number: Int
  /// What it says after the number.
  public let description: String
  /// Whether it said `ok`.
  public let isOK: Bool
  /// Whether it is to be skipped, or expected to fail.
  public let directive: Directive?

  /// Whether the test as a whole can pass with it.
  public var isGood: Bool { isOK || directive == .todo }
}

/// Gathers test points line by line.
struct TAPReader {
  /// More than that nobody reads; a guest that says more has failed.
  static let pointLimit = 100_000

  private(set) var points: [TAPPoint] = []
  private(set) var plan: Int?
  private(set) var skipReason: String?
  private(set) var bailOut: String?
  private var hasTooMany = false

  mutating func read(_ line: ArraySlice<UInt8>) {
    var text = Self.withoutTimeStamp(line)
    if Self.take("Bail out!", from: &text) {
      bailOut = bailOut ?? Self.string(text)
    } else if Self.take("1..", from: &text) {
      readPlan(text)
    } else if Self.take("not ok", from: &text) {
      readPoint(text, isOK: false)
    } else if Self.take("ok", from: &text) {
      readPoint(text, isOK: true)
    }
  }

  /// Why the whole is no success, or `nil` if it is.
  var finding: String? {
    if let bailOut { return "TAP: bailed out" + (bailOut.isEmpty ? "" : ": \(bailOut)") }
    if hasTooMany { return "TAP: more than \(Self.pointLimit) test points" }
    let bad = points.filter { !$0.isGood }
    if let first = bad.first {
      let name = first.description.isEmpty ? "" : " \(first.description)"
      return "TAP: \(bad.count) of \(points.count) not ok, the first: \(first.number)\(name)"
    }
    guard let plan else { return "TAP: no plan (1..N) in the console: the guest did not come to its end" }
    guard plan == points.count else { return "TAP: \(points.count) test points where the plan says \(plan)" }
    if let wrong = points.enumerated().first(where: { $0.element.number != $0.offset + 1 }) {
      return "TAP: test point \(wrong.element.number) where \(wrong.offset + 1) was due"
    }
    return nil
  }

  private mutating func readPlan(_ text: ArraySlice<UInt8>) {
    let digits = text.prefix { (0x30...0x39).contains($0) }
    guard plan == nil, let count = Int(String(decoding: digits, as: UTF8.self)) else { return }
    plan = count
    let (_, directive, reason) = Self.splitDirective(text.dropFirst(digits.count))
    if count == 0, directive == .skip { skipReason = reason }
  }

  private mutating func readPoint(_ text: ArraySlice<UInt8>, isOK: Bool) {
    // "okay" is a word and no test point.
    guard text.isEmpty || text.first == 0x20 || text.first == 0x09 else { return }
    guard points.count < Self.pointLimit else {
      hasTooMany = true
      return
    }
    var rest = text.drop { $0 == 0x20 || $0 == 0x09 }
    let digits = rest.prefix { (0x30...0x39).contains($0) }
    let number = Int(String(decoding: digits, as: UTF8.self)) ?? points.count + 1
    rest = rest.dropFirst(digits.count).drop { $0 == 0x20 }
    if rest.first == UInt8(ascii: "-") { rest = rest.dropFirst() }
    let (description, directive, _) = Self.splitDirective(rest)
    points.append(TAPPoint(number: number, description: description, isOK: isOK, directive: directive))
  }

  /// What stands before an unescaped `#`, the directive behind it if it is one, and its reason.
  private static func splitDirective(
    _ text: ArraySlice<UInt8>
  ) -> (text: String, directive: TAPPoint.Directive?, reason: String) {
    var isEscaped = false
    for index in text.indices {
      if text[index] == UInt8(ascii: "#"), !isEscaped {
        var rest = text[(index + 1)...].drop { $0 == 0x20 }
        if take("skip", from: &rest) { return (string(text[..<index]), .skip, string(rest)) }
        if take("todo", from: &rest) { return (string(text[..<index]), .todo, string(rest)) }
      }
      isEscaped = text[index] == UInt8(ascii: "\\") && !isEscaped
    }
    return (string(text), nil, "")
  }

  /// Takes `prefix` off the front if it is there, in whatever case.
  private static func take(_ prefix: String, from text: inout ArraySlice<UInt8>) -> Bool {
    guard text.count >= prefix.utf8.count,
      zip(prefix.utf8, text).allSatisfy({ lowercased($0) == lowercased($1) })
    else { return false }
    text = text.dropFirst(prefix.utf8.count)
    return true
  }

  private static func lowercased(_ byte: UInt8) -> UInt8 {
    (0x41...0x5a).contains(byte) ? byte | 0x20 : byte
  }

  /// `[   12.345678] ` is Linux' time stamp.
  private static func withoutTimeStamp(_ line: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
    guard line.first == UInt8(ascii: "["), let end = line.prefix(32).firstIndex(of: UInt8(ascii: "]")) else {
      return line
    }
    let isTime = line[(line.startIndex + 1)..<end].allSatisfy { $0 == 0x20 || $0 == 0x2e || (0x30...0x39).contains($0) }
    guard isTime else { return line }
    let rest = line[(end + 1)...]
    return rest.first == 0x20 ? rest.dropFirst() : rest
  }

  /// Without spaces around.
  private static func string(_ bytes: ArraySlice<UInt8>) -> String {
    var bytes = bytes.drop { $0 == 0x20 || $0 == 0x09 }
    while bytes.last == 0x20 || bytes.last == 0x09 { bytes = bytes.dropLast() }
    return String(decoding: bytes, as: UTF8.self)
  }
}
