import TrivisorVMM

/// A bit for each of the 256 interrupt vectors, in the words in which a local APIC's registers show them.
struct VectorSet {
  private var words = InlineArray<8, UInt32>(repeating: 0)

  /// Vectors 32 × `index` and up.
  subscript(word index: Int) -> UInt32 { words[index & 7] }

  func contains(_ vector: UInt8) -> Bool { words[Int(vector >> 5)] >> UInt32(vector & 31) & 1 != 0 }

  mutating func insert(_ vector: UInt8) { words[Int(vector >> 5)] |= 1 << UInt32(vector & 31) }

  mutating func remove(_ vector: UInt8) { words[Int(vector >> 5)] &= ~(1 << UInt32(vector & 31)) }

  /// The one that goes first.
  var highest: UInt8? {
    for index in (0..<8).reversed() where words[index] != 0 {
      return UInt8(truncatingIfNeeded: 32 * index + 31 - words[index].leadingZeroBitCount)
    }
    return nil
  }

  /// The words, to be saved.
  var list: [UInt32] { words.list }

  init() {}

  /// - Throws: `RestoreFailure` unless there are eight words, without the vectors 0 to 15, which are exceptions'.
  init(_ list: [UInt32], of name: String, _ subject: String) throws(RestoreFailure) {
    words = try fixedStorage(list, of: name, subject)
    try restoring(subject, requires: words[0] & 0xffff == 0, "\(name) has a vector below 16")
  }
}
