/// A table of pairs, a tag and a word, in which translated code looks by an index that the tag determines.
///
/// An empty entry holds a tag that is at home in another one, so nothing can hit it: 0, and in entry 0, where 0 is at home,
/// something else. So fresh memory of the host's is empty but for one word, and a machine that starts need not touch
/// tables that its guest never uses.
///
/// Loads of CR3 leave alone what belongs to global pages: so what was filled is listed, the one apart from the other, unless
/// it is too much.
struct TaggedTable {
  private let entries: UnsafeMutablePointer<UInt64>
  let count: Int
  private let emptyAtZero: UInt64
  private var locals: FilledEntries
  private var globals: FilledEntries
  /// A bit for each entry: whether it was filled as global.
  private var globalBits: [UInt64]
  private(set) var isEmpty = true

  /// - Parameters:
  ///   - entries: fresh, all zero.
  ///   - emptyAtZero: a tag that is not at home in entry 0.
  ///   - listLimit: how many entries are worth listing.
  init(_ entries: UnsafeMutablePointer<UInt64>, count: Int, emptyAtZero: UInt64, listLimit: Int) {
    self.entries = entries
    self.count = count
    self.emptyAtZero = emptyAtZero
    locals = FilledEntries(limit: listLimit, count: count)
    globals = FilledEntries(limit: listLimit, count: count)
    globalBits = [UInt64](repeating: 0, count: (count + 63) / 64)
    clear(0)
  }

  @inline(__always)
  func tag(_ index: Int) -> UInt64 { entries[2 * index] }

  @inline(__always)
  func word(_ index: Int) -> UInt64 { entries[2 * index + 1] }

  @inline(__always)
  func isFilled(_ index: Int) -> Bool { entries[2 * index] != (index == 0 ? emptyAtZero : 0) }

  /// - Parameter tag: one that is at home in the entry.
  @inline(__always)
  mutating func set(_ index: Int, tag: UInt64, word: UInt64, isGlobal: Bool) {
    entries[2 * index] = tag
    entries[2 * index + 1] = word
    isEmpty = false
    let bit: UInt64 = 1 << UInt64(index & 63)
    if isGlobal {
      globalBits[index >> 6] |= bit
      globals.append(index)
    } else {
      globalBits[index >> 6] &= ~bit
      locals.append(index)
    }
  }

  /// Whether an entry that is filled was so as global.
  func isGlobal(_ index: Int) -> Bool { globalBits[index >> 6] >> UInt64(index & 63) & 1 != 0 }

  /// Something may be there that is not global.
  var hasLocals: Bool { !locals.isEmpty }

  /// Takes out what is not global, so that it can be put back.
  /// - Parameter isLost: by its tag, what is cleared and not put back.
  @inline(__always)
  mutating func takeLocals(into taken: inout [TakenEntry], unless isLost: (UInt64) -> Bool = { _ in false }) {
    if locals.isComplete {
      for index in locals.indices { take(Int(index), into: &taken, unless: isLost) }
    } else {
      for index in 0..<count { take(index, into: &taken, unless: isLost) }
    }
    locals.removeAll()
  }

  @inline(__always)
  private func take(_ index: Int, into taken: inout [TakenEntry], unless isLost: (UInt64) -> Bool) {
    guard isFilled(index), !isGlobal(index) else { return }
    if !isLost(tag(index)) {
      taken.append(TakenEntry(tag: tag(index), word: word(index), index: UInt16(truncatingIfNeeded: index)))
    }
    clear(index)
  }

  /// Puts back what was taken out, where nothing else is by now.
  mutating func putBack(_ taken: [TakenEntry]) {
    for entry in taken where !isFilled(Int(entry.index)) {
      set(Int(entry.index), tag: entry.tag, word: entry.word, isGlobal: false)
    }
  }

  @inline(__always)
  func clear(_ index: Int) { entries[2 * index] = index == 0 ? emptyAtZero : 0 }

  /// Clears the filled entries whose tags are to go.
  /// - Parameter indices: where these are at home.
  @inline(__always)
  func clear(_ indices: Range<Int>, where isVoid: (UInt64) -> Bool) {
    if locals.isComplete, globals.isComplete, locals.indices.count + globals.indices.count < indices.count {
      for index in locals.indices where isVoid(tag(Int(index))) && isFilled(Int(index)) { clear(Int(index)) }
      for index in globals.indices where isVoid(tag(Int(index))) && isFilled(Int(index)) { clear(Int(index)) }
    } else {
      for index in indices where isVoid(tag(index)) && isFilled(index) { clear(index) }
    }
  }

  /// Tells the tags of the filled entries, some perhaps twice.
  func forEachTag(_ body: (UInt64) -> Void) {
    guard !isEmpty else { return }
    if locals.isComplete, globals.isComplete {
      for index in locals.indices where isFilled(Int(index)) { body(tag(Int(index))) }
      for index in globals.indices where isFilled(Int(index)) { body(tag(Int(index))) }
    } else {
      for index in 0..<count where isFilled(index) { body(tag(index)) }
    }
  }

  mutating func removeAll(keepsGlobal: Bool) {
    guard !isEmpty else { return }
    if keepsGlobal, locals.isComplete {
      for index in locals.indices { clear(Int(index)) }
      locals.removeAll()
      return
    }
    if locals.isComplete, globals.isComplete {
      for index in locals.indices { clear(Int(index)) }
      for index in globals.indices { clear(Int(index)) }
    } else {
      for index in 0..<count { clear(index) }
    }
    locals.removeAll()
    globals.removeAll()
    isEmpty = true
  }
}

/// What was in an entry of a table.
struct TakenEntry {
  let tag: UInt64
  let word: UInt64
  let index: UInt16
}
