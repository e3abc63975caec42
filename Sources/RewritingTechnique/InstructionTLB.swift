/// Translations for fetching code: what the guest's page tables said where its code is. Rights of CPL 3 and of the others
/// are apart. Those of CPL 3 are also where translated code can look: it jumps to another page without Swift if that is
/// still the physical page that the jump was linked for.
struct InstructionTLB {
  private static let entryCount = StateLayout.codeTLBEntries
  private static let globalBit: UInt64 = 1

  /// Page number and rights; all ones where nothing is.
  private let tags: UnsafeMutablePointer<UInt64>
  /// Physical address, with `globalBit`.
  private let pages: UnsafeMutablePointer<UInt64>
  /// By page, what translated code looks at; 0 where nothing is.
  private let published: UnsafeMutablePointer<UInt64>
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
    // Another page may have been there in between, or the entry may have gone with another one.
    if isUser { publish(linear, pages[index]) }
    return (pages[index] & ~4095 | linear & 4095, pages[index] & Self.globalBit != 0)
  }

  /// - Parameter shift: log2 of the size of the page that the translation is of.
  mutating func insert(_ linear: UInt64, physical: UInt64, isUser: Bool, isGlobal: Bool, shift: UInt64) {
    let index = Self.index(linear)
    tags[index] = Self.tag(linear, isUser: isUser)
    pages[index] = physical & ~4095 | (isGlobal ? Self.globalBit : 0)
    if isUser { publish(linear, physical) }
    largePages.note(linear, shift: shift, isGlobal: isGlobal)
  }

  @inline(__always)
  private func publish(_ linear: UInt64, _ physical: UInt64) {
    published[Self.index(linear)] = linear & ~4095 ^ PageCode.code(for: physical >> 12)
  }

  mutating func removeAll(keepsGlobal: Bool = false) {
    for index in 0..<Self.entryCount where !keepsGlobal || pages[index] & Self.globalBit == 0 { tags[index] = .max }
    published.update(repeating: 0, count: Self.entryCount)
    largePages.removeAll(keepsGlobal: keepsGlobal)
  }

  /// INVLPG.
  /// - Returns: the ranges of linear addresses, besides this page, whose translations are void.
  mutating func remove(page linear: UInt64) -> [ClosedRange<UInt64>] {
    let index = Self.index(linear)
    if tags[index] >> 1 == linear >> 12 { tags[index] = .max }
    published[index] = 0
    let ranges = largePages.take(around: linear)
    if !ranges.isEmpty { published.update(repeating: 0, count: Self.entryCount) }
    for range in ranges {
      for index in 0..<Self.entryCount where range.contains((tags[index] >> 1) << 12) { tags[index] = .max }
    }
    return ranges
  }
}
