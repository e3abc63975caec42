/// What could be read at RIP, without a heap.
struct InstructionBytes {
  /// The most that an instruction has.
  static let limit = 15

  private(set) var count = 0
  private var storage: InlineArray<16, UInt8> = InlineArray(repeating: 0)

  mutating func append(_ byte: UInt8) {
    guard count < Self.limit else { return }
    storage[count] = byte
    count += 1
  }

  subscript(position: Int) -> UInt8 { storage[position] }

  /// Four bytes, of which all must be there.
  func word(at position: Int) -> Int32 {
    var value: UInt32 = 0
    for byte in 0..<4 { value |= UInt32(storage[position + byte]) << UInt32(8 * byte) }
    return Int32(bitPattern: value)
  }

  func starts(with bytes: InlineArray<7, UInt8>) -> Bool {
    guard count >= bytes.count else { return false }
    for position in bytes.indices where storage[position] != bytes[position] { return false }
    return true
  }

  var array: [UInt8] { (0..<count).map { storage[$0] } }
}
