/// Finds the position of a word in a list, for reading the table.
struct WordTable {
  private var slots: [(hash: UInt32, index: UInt32)]
  private let mask: Int

  /// - Parameters:
  ///   - words: separated by single spaces.
  ///   - slotCount: a power of two, at least twice the number of words.
  init(_ words: StaticString, slotCount: Int = 512) {
    slots = .init(repeating: (0, 0), count: slotCount)
    mask = slotCount - 1
    var index: UInt32 = 0
    var start = words.utf8Start
    let end = start + words.utf8CodeUnitCount
    while start < end {
      var stop = start
      while stop < end, stop.pointee != UInt8(ascii: " ") { stop += 1 }
      insert(Word(start: start, end: stop), index)
      index += 1
      start = stop + 1
    }
  }

  private mutating func insert(_ word: Word, _ index: UInt32) {
    let hash = word.hash
    var slot = Int(hash) & mask
    while slots[slot].hash != 0 { slot = (slot + 1) & mask }
    slots[slot] = (hash, index)
  }

  func index(of word: Word) -> Int? {
    let hash = word.hash
    var slot = Int(hash) & mask
    while slots[slot].hash != 0 {
      if slots[slot].hash == hash { return Int(slots[slot].index) }
      slot = (slot + 1) & mask
    }
    return nil
  }
}

/// A piece of the table's text.
struct Word {
  var start: UnsafePointer<UInt8>
  var end: UnsafePointer<UInt8>

  var isEmpty: Bool { start == end }
  var count: Int { end - start }
  var first: UInt8 { isEmpty ? 0 : start.pointee }

  /// Two words of the table with the same hash would have to be renamed; a test reads every line back.
  var hash: UInt32 {
    var hash: UInt32 = 0x811c_9dc5
    var p = start
    while p < end {
      hash = (hash ^ UInt32(p.pointee)) &* 0x0100_0193
      p += 1
    }
    return hash | 1
  }

  func dropFirst(_ count: Int = 1) -> Word { Word(start: min(start + count, end), end: end) }

  func contains(_ byte: UInt8) -> Bool {
    var p = start
    while p < end {
      if p.pointee == byte { return true }
      p += 1
    }
    return false
  }

  func hasPrefix(_ text: StaticString) -> Bool {
    guard count >= text.utf8CodeUnitCount else { return false }
    for i in 0..<text.utf8CodeUnitCount where start[i] != text.utf8Start[i] { return false }
    return true
  }

  /// Cuts off and returns what stands before the next `separator`.
  mutating func next(_ separator: UInt8) -> Word {
    var p = start
    while p < end, p.pointee != separator { p += 1 }
    let word = Word(start: start, end: p)
    start = p < end ? p + 1 : end
    return word
  }
}
