/// Which entries of a table were filled, each once, unless they are more than are worth listing: then all of them may have been.
struct FilledEntries {
  private(set) var indices: [UInt16] = []
  private(set) var isComplete = true
  /// A bit for each entry: whether it is listed.
  private var bits: [UInt64]
  private let limit: Int

  /// - Parameters:
  ///   - limit: how many are worth listing.
  ///   - count: of the table's entries.
  init(limit: Int, count: Int) {
    self.limit = limit
    bits = [UInt64](repeating: 0, count: (count + 63) / 64)
    indices.reserveCapacity(min(limit, 64))
  }

  var isEmpty: Bool { isComplete && indices.isEmpty }

  @inline(__always)
  mutating func append(_ index: Int) {
    let bit: UInt64 = 1 << UInt64(index & 63)
    guard isComplete, bits[index >> 6] & bit == 0 else { return }
    guard indices.count < limit else {
      isComplete = false
      return
    }
    indices.append(UInt16(truncatingIfNeeded: index))
    bits[index >> 6] |= bit
  }

  mutating func removeAll() {
    for index in indices { bits[Int(index >> 6)] = 0 }
    indices.removeAll(keepingCapacity: true)
    isComplete = true
  }
}
