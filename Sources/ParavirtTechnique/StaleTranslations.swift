/// Translations that guest code may still have and the page tables no longer say.
struct StaleTranslations: Equatable {
  /// More than this many pieces are dearer to remove one by one than to bring back what is still needed.
  private static let limit = 256

  private(set) var ranges: [Range<UInt64>] = []
  private(set) var isEverything = false

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
    ranges = []
    isEverything = true
  }

  mutating func removeAll() {
    ranges = []
    isEverything = false
  }
}

/// Whatever keeps translations: an executor of guest code. A domain tells it what is gone.
protocol TranslationKeeper: AnyObject {
  /// Returns when no processor can use them any more.
  func remove(_ stale: StaleTranslations)
  /// No translation of this root is needed again; its frame may become the root of something else.
  func forget(root: UInt64)
}
