/// Pages by the low bits of their numbers: what is not here need not be looked for.
struct PageFilter {
  private static let count: UInt64 = 4096
  /// A bit for each.
  private var words = [UInt64](repeating: 0, count: Int(count / 64))

  /// - Parameter address: in the page.
  @inline(__always)
  mutating func note(_ address: UInt64) {
    let number = address >> 12 & (Self.count - 1)
    words[Int(number >> 6)] |= 1 << (number & 63)
  }

  /// Whether one of the pages in the range may have been noted.
  func mayHold(_ range: ClosedRange<UInt64>) -> Bool {
    let first = range.lowerBound >> 12
    let last = first + min(range.upperBound >> 12 - first, Self.count - 1)
    return (first...last).contains { words[Int($0 >> 6 & (Self.count / 64 - 1))] >> ($0 & 63) & 1 != 0 }
  }

  mutating func removeAll() {
    for place in words.indices { words[place] = 0 }
  }
}
