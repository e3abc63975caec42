/// The receiver's 16 bytes, first in, first out; of fixed size, so that no access allocates.
struct ReceiveFIFO: Sendable {
  static let capacity = 16

  private var storage = InlineArray<16, UInt8>(repeating: 0)
  private var head = 0
  private(set) var count = 0

  /// Does nothing when full: the caller decides what an overrun is.
  mutating func append(_ byte: UInt8) {
    guard count < Self.capacity else { return }
    storage[(head + count) % Self.capacity] = byte
    count += 1
  }

  /// `nil` when empty.
  mutating func removeFirst() -> UInt8? {
    guard count > 0 else { return nil }
    let byte = storage[head]
    head = (head + 1) % Self.capacity
    count -= 1
    return byte
  }

  mutating func removeAll() { count = 0 }

  /// What it holds, first to last.
  var list: [UInt8] { (0..<count).map { storage[(head + $0) % Self.capacity] } }
}
