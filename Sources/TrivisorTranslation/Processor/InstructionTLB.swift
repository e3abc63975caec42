/// Translations for fetching code: what the guest's page tables said where its code is. Rights of CPL 3 and of the others
/// are apart. Those of CPL 3 are also where translated code can look: it jumps to another page without Swift if that is
/// still the physical page that the jump was linked for.
///
/// Large programs run code of thousands of pages, and a process switch should not cost as much: so the entries that were filled are
/// listed, up to a number, and global ones apart, which are most of a kernel's and stay.
struct InstructionTLB {
  private static let entryCount = StateLayout.codeTLBEntries
  private static let listLimit = 1024
  private static let globalBit: UInt64 = 1

  /// Page number and rights; all ones where nothing is.
  private let tags: UnsafeMutablePointer<UInt64>
  /// Physical address, with `globalBit`.
  private let pages: UnsafeMutablePointer<UInt64>
  /// By page, what translated code looks at; 0 where nothing is.
  private let published: UnsafeMutablePointer<UInt64>
  /// Entries of which a tag or a published word may be there.
  private var locals = FilledEntries(limit: listLimit, count: entryCount)
  private var globals = FilledEntries(limit: listLimit, count: entryCount)
  private var largePages = LargePages()

  init(_ block: StateBlock) {
    published = block.words(at: StateLayout.codeTLB)
    tags = .allocate(capacity: Self.entryCount)
    pages = .allocate(capacity: Self.entryCount)
    tags.initialize(repeating: .max, count: Self.entryCount)
    pages.initialize(repeating: 0, count: Self.entryCount)
  }

  func deallocate() {
    tags.deallocate()
    pages.deallocate()
  }

  @inline(__always)
  private static func index(_ linear: UInt64) -> Int { Int(linear >> 12 & UInt64(entryCount - 1)) }

  @inline(__always)
  private static func tag(_ linear: UInt64, isUser: Bool) -> UInt64 { (linear >> 12) << 1 | (isUser ? 1 : 0) }

  /// The physical address of a byte of code, and whether the translation is global.
  @inline(__always)
  func find(_ linear: UInt64, isUser: Bool) -> (physical: UInt64, isGlobal: Bool)? {
    let index = Self.index(linear)
    guard tags[index] == Self.tag(linear, isUser: isUser) else { return nil }
    // Another page may have been there in between, or the word may have gone with another one.
    if isUser { publish(linear, pages[index]) }
    return (pages[index] & ~4095 | linear & 4095, pages[index] & Self.globalBit != 0)
  }

  /// - Parameter shift: log2 of the size of the page that the translation is of.
  mutating func insert(_ linear: UInt64, physical: UInt64, isUser: Bool, isGlobal: Bool, shift: UInt64) {
    let index = Self.index(linear)
    if isGlobal { globals.append(index) } else { locals.append(index) }
    tags[index] = Self.tag(linear, isUser: isUser)
    pages[index] = physical & ~4095 | (isGlobal ? Self.globalBit : 0)
    if isUser { publish(linear, physical) }
    largePages.note(linear, shift: shift, isGlobal: isGlobal)
  }

  /// The entry's tag is there, so it is listed, if anything is.
  @inline(__always)
  private func publish(_ linear: UInt64, _ physical: UInt64) {
    let page = physical >> 12
    published[Self.index(linear)] = PageCode.exists(for: page) ? linear & ~4095 ^ PageCode.code(for: page) : 0
  }

  mutating func removeAll(keepsGlobal: Bool = false) {
    if keepsGlobal {
      removeLocals()
    } else {
      if locals.isComplete, globals.isComplete {
        for index in locals.indices { clear(Int(index)) }
        for index in globals.indices { clear(Int(index)) }
      } else {
        for index in 0..<Self.entryCount { clear(index) }
      }
      locals.removeAll()
      globals.removeAll()
    }
    largePages.removeAll(keepsGlobal: keepsGlobal)
  }

  private func clear(_ index: Int) {
    tags[index] = .max
    published[index] = 0
  }

  private mutating func removeLocals() {
    if locals.isComplete {
      for index in locals.indices { clearLocal(Int(index)) }
    } else {
      for index in 0..<Self.entryCount { clearLocal(index) }
    }
    locals.removeAll()
  }

  /// What is published may be of a page that was there before the one of the tag.
  private func clearLocal(_ index: Int) {
    published[index] = 0
    if pages[index] & Self.globalBit == 0 { tags[index] = .max }
  }

  /// What was taken out.
  struct Taken {
    var entries: [TakenEntry] = []
    var largePages: Set<UInt64> = []

    mutating func removeAll() {
      entries.removeAll(keepingCapacity: true)
      largePages.removeAll(keepingCapacity: true)
    }
  }

  /// All large pages are noted, so that translations can be taken out together with what INVLPG must know of them.
  var canTake: Bool { !largePages.isOverflowing }

  /// Takes out what is not global.
  /// - Parameter taken: empty.
  mutating func takeLocals(into taken: inout Taken) {
    if locals.isComplete {
      for index in locals.indices { take(Int(index), into: &taken.entries) }
    } else {
      for index in 0..<Self.entryCount { take(index, into: &taken.entries) }
    }
    removeLocals()
    largePages.takeLocals(into: &taken.largePages)
  }

  private func take(_ index: Int, into taken: inout [TakenEntry]) {
    guard tags[index] != .max, pages[index] & Self.globalBit == 0 else { return }
    taken.append(TakenEntry(tag: tags[index], word: pages[index], index: UInt16(index)))
    tags[index] = .max
  }

  /// Puts it back, where nothing else is by now; what is taken is empty then.
  mutating func putBack(_ taken: inout Taken) {
    for entry in taken.entries where tags[Int(entry.index)] == .max {
      let index = Int(entry.index)
      locals.append(index)
      tags[index] = entry.tag
      pages[index] = entry.word
      if entry.tag & 1 != 0 { publish((entry.tag >> 1) << 12, entry.word) }
    }
    largePages.putBack(&taken.largePages)
    taken.removeAll()
  }

  /// INVLPG.
  /// - Returns: the ranges of linear addresses, besides this page, whose translations are void.
  mutating func remove(page linear: UInt64) -> [ClosedRange<UInt64>] {
    let index = Self.index(linear)
    if tags[index] >> 1 == linear >> 12 { tags[index] = .max }
    published[index] = 0
    let ranges = largePages.take(around: linear)
    if ranges.isEmpty { return ranges }
    published.update(repeating: 0, count: Self.entryCount)
    for range in ranges {
      for index in 0..<Self.entryCount where range.contains((tags[index] >> 1) << 12) { tags[index] = .max }
    }
    return ranges
  }
}
