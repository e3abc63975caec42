/// A few numbers, without a heap.
struct InlineNumbers: ExpressibleByArrayLiteral, Sequence, IteratorProtocol {
  private var values: InlineArray<8, UInt64> = InlineArray(repeating: 0)
  private var count = 0
  private var position = 0

  init(arrayLiteral elements: UInt64...) {
    for element in elements where count < 8 {
      values[count] = element
      count += 1
    }
  }

  mutating func next() -> UInt64? {
    guard position < count else { return nil }
    defer { position += 1 }
    return values[position]
  }
}

/// The same of pairs.
struct InlinePairs: ExpressibleByArrayLiteral, Sequence, IteratorProtocol {
  private var values: InlineArray<8, (UInt64, UInt64)> = InlineArray(repeating: (0, 0))
  private var count = 0
  private var position = 0

  init(arrayLiteral elements: (UInt64, UInt64)...) {
    for element in elements where count < 8 {
      values[count] = element
      count += 1
    }
  }

  mutating func next() -> (UInt64, UInt64)? {
    guard position < count else { return nil }
    defer { position += 1 }
    return values[position]
  }
}
