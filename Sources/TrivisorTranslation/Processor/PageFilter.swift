/// Linear pages by the low bits of their numbers: what is not here need not be looked for.
struct PageFilter {
  private static let count: UInt64 = 4096
  private var isNoted = [Bool](repeating: false, count: Int(count))

  @inline(__always)
  mutating func note(_ linear: UInt64) { isNoted[Int(linear >> 12 & (Self.count - 1))] = true }

  /// Whether one of the pages in the range may have been noted.
  func mayHold(_ range: ClosedRange<UInt64>) -> Bool {
    let first = range.lowerBound >> 12
    let last = first + min(range.upperBound >> 12 - first, Self.count - 1)
    return (first...last).contains { isNoted[Int($0 & (Self.count - 1))] }
  }

  mutating func removeAll() {
    for index in isNoted.indices { isNoted[index] = false }
  }
}
