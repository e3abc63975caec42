/// The words of the command line: `loop`, `scale=3`.
enum Arguments {
  static var isEmpty: Bool { text(at: 0).count == 0 }

  /// Whether `word` stands on the command line by itself.
  static func contains(_ word: StaticString) -> Bool {
    var start = 0
    while true {
      let candidate = text(at: start)
      if candidate.count == 0 { return false }
      if equal(candidate, word, prefix: false) { return true }
      start = end(of: candidate)
    }
  }

  /// The number behind `key`, which ends in `=`; nil if it is not there, not a number or too large.
  static func number(_ key: StaticString) -> UInt64? {
    var start = 0
    while true {
      let candidate = text(at: start)
      if candidate.count == 0 { return nil }
      if equal(candidate, key, prefix: true) {
        return decimal(UnsafeBufferPointer(rebasing: candidate[key.utf8CodeUnitCount...]))
      }
      start = end(of: candidate)
    }
  }

  /// The first word that does not end before `start`; empty at the end.
  private static func text(at start: Int) -> UnsafeBufferPointer<UInt8> {
    let line = Platform.commandLine
    var first = start
    while first < line.count, line[first] == UInt8(ascii: " ") { first &+= 1 }
    var last = first
    while last < line.count, line[last] != UInt8(ascii: " ") { last &+= 1 }
    return UnsafeBufferPointer(rebasing: line[first..<last])
  }

  private static func end(of word: UnsafeBufferPointer<UInt8>) -> Int {
    guard let start = Platform.commandLine.baseAddress, let first = word.baseAddress else { return 0 }
    return first - start + word.count
  }

  private static func equal(_ text: UnsafeBufferPointer<UInt8>, _ word: StaticString, prefix: Bool) -> Bool {
    let count = word.utf8CodeUnitCount
    guard prefix ? text.count >= count : text.count == count else { return false }
    for i in 0..<count where text[i] != word.utf8Start[i] { return false }
    return true
  }

  private static func decimal(_ text: UnsafeBufferPointer<UInt8>) -> UInt64? {
    if text.count == 0 || text.count > 18 { return nil }
    var value: UInt64 = 0
    for byte in text {
      guard byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9") else { return nil }
      value = value &* 10 &+ UInt64(byte &- UInt8(ascii: "0"))
    }
    return value
  }
}
