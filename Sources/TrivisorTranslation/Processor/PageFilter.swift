/// Pages by the low bits of their numbers: what is not here need not be looked for.
///
/// Pages are only added to it. A guest's programs lie at other addresses each time, so whoever keeps a filter for long fills it anew when
/// it is crowded.
struct PageFilter {
  private let count: UInt64
  /// A bit for each.
  private var words: [UInt64]
  /// Bits that are set.
  private var noted = 0

  /// - Parameter count: of bits, a power of two.
  init(count: UInt64 = 4096) {
    self.count = count
    words = [UInt64](repeating: 0, count: Int(count / 64))
  }

  /// Says yes so often without need that it is worth filling anew.
  var isCrowded: Bool { noted > Int(count / 8) }

  /// - Parameter address: in the page.
  @inline(__always)
  mutating func note(_ address: UInt64) {
    let number = address >> 12 & (count - 1)
    let bit: UInt64 = 1 << (number & 63)
    if words[Int(number >> 6)] & bit == 0 { noted += 1 }
    words[Int(number >> 6)] |= bit
  }

  /// Whether one of the pages in the range may have been noted.
  func mayHold(_ range: ClosedRange<UInt64>) -> Bool {
    let first = range.lowerBound >> 12
    let last = range.upperBound >> 12
    if last - first >= count { return noted > 0 }
    return (first...last).contains { words[Int(($0 & (count - 1)) >> 6)] >> ($0 & 63) & 1 != 0 }
  }

  mutating func removeAll() {
    noted = 0
    for place in words.indices { words[place] = 0 }
  }
}
