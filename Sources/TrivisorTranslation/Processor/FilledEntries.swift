/// Which entries of a table were filled, unless they are more than are worth listing: then all of them may have been.
struct FilledEntries {
  private(set) var indices: [UInt16] = []
  private(set) var isComplete = true
  private let limit: Int

  init(limit: Int) {
    self.limit = limit
    indices.reserveCapacity(min(limit, 64))
  }

  var isEmpty: Bool { isComplete && indices.isEmpty }

  @inline(__always)
  mutating func append(_ index: Int) {
    guard isComplete else { return }
    if indices.count < limit { indices.append(UInt16(truncatingIfNeeded: index)) } else { isComplete = false }
  }

  mutating func removeAll() {
    indices.removeAll(keepingCapacity: true)
    isComplete = true
  }
}
