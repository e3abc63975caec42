/// Numbers that can be had again: xorshift.
public struct Random {
  private var state: UInt64

  /// - Parameter seed: any.
  public init(seed: UInt64) { state = seed == 0 ? 1 : seed }

  /// 64 bits.
  public mutating func next() -> UInt64 {
    state ^= state << 13
    state ^= state >> 7
    state ^= state << 17
    return state
  }

  /// One of 0 to `limit` - 1.
  public mutating func below(_ limit: UInt64) -> UInt64 { next() % limit }

  /// One of them.
  public mutating func one<Value>(of values: [Value]) -> Value { values[Int(below(UInt64(values.count)))] }
}
