/// Translations that guest code may still have and the page tables no longer say.
public struct StaleTranslations: Sendable, Equatable {
  /// More than this many pieces are dearer to remove one by one than to bring back what is still needed.
  private static let limit = 256

  /// Of addresses; empty when everything is stale.
  public private(set) var ranges: [Range<UInt64>] = []
  /// Whether nothing of what was known is true any more.
  public private(set) var isEverything = false

  var isEmpty: Bool { ranges.isEmpty && !isEverything }

  mutating func add(_ start: UInt64, size: UInt64) {
    guard !isEverything else { return }
    let (end, overflow) = start.addingReportingOverflow(size)
    if let last = ranges.last, last.upperBound == start, !overflow {
      ranges[ranges.count - 1] = last.lowerBound..<end
    } else if ranges.count < Self.limit, !overflow {
      ranges.append(start..<end)
    } else {
      addEverything()
    }
  }

  mutating func addEverything() {
    ranges.removeAll(keepingCapacity: true)
    isEverything = true
  }

  mutating func removeAll() {
    ranges.removeAll(keepingCapacity: true)
    isEverything = false
  }
}
