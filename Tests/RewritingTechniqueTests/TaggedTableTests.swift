import Testing

@testable import TrivisorTranslation

@Suite("tables that translated code looks in")
struct TaggedTableTests {
  private static let count = 64

  /// As the software TLB's: a tag is a page's address, and the page's number says where it is at home.
  private func withTable(listLimit: Int = 8, _ body: (inout TaggedTable) -> Void) {
    let entries = UnsafeMutablePointer<UInt64>.allocate(capacity: 2 * Self.count)
    entries.initialize(repeating: 0, count: 2 * Self.count)
    defer { entries.deallocate() }
    var table = TaggedTable(entries, count: Self.count, emptyAtZero: 1 << 12, listLimit: listLimit)
    body(&table)
  }

  private func isHit(_ table: TaggedTable, _ page: UInt64) -> Bool {
    table.tag(Int(page) % Self.count) ^ (page << 12 | 0xabc) < 4096
  }

  private func fill(_ table: inout TaggedTable, _ page: UInt64, isGlobal: Bool) {
    table.set(Int(page) % Self.count, tag: page << 12, word: page, isGlobal: isGlobal)
  }

  @Test("nothing hits an empty table, page 0 and those that share its entry included")
  func empty() {
    withTable { table in
      #expect(table.isEmpty)
      for page: UInt64 in 0..<256 { #expect(!isHit(table, page)) }
      for index in 0..<Self.count { #expect(!table.isFilled(index)) }
    }
  }

  @Test("page 0 is found when it is there, and not when it is gone")
  func zero() {
    withTable { table in
      fill(&table, 0, isGlobal: false)
      #expect(isHit(table, 0))
      #expect(table.isFilled(0))
      table.clear(0)
      #expect(!isHit(table, 0))
      #expect(!table.isFilled(0))
    }
  }

  @Test("what is void is cleared, whether it is listed or not, and filled twice or not", arguments: [4, 60])
  func clearing(filled: UInt64) {
    withTable { table in
      for _ in 0..<3 {
        for page in 0..<filled { fill(&table, page, isGlobal: page % 3 == 0) }
        table.clear(0..<Self.count) { $0 >> 12 & 1 == 0 }
        for page in 0..<filled { #expect(isHit(table, page) == (page % 2 == 1)) }
      }
      table.removeAll(keepsGlobal: true)
      for page in 0..<filled where page % 3 != 0 { #expect(!isHit(table, page)) }
    }
  }

  @Test("what is global stays when it may, and goes when all goes", arguments: [4, 60])
  func removal(filled: UInt64) {
    withTable { table in
      for page in 0..<filled { fill(&table, page, isGlobal: page % 2 == 0) }
      for page in 0..<filled { #expect(isHit(table, page)) }
      table.removeAll(keepsGlobal: true)
      // More than is worth listing goes as a whole, which is never wrong.
      for page in 0..<filled {
        #expect(page % 2 == 1 ? !isHit(table, page) : isHit(table, page) == (filled == 4))
      }
      fill(&table, 5, isGlobal: false)
      table.removeAll(keepsGlobal: false)
      #expect(table.isEmpty)
      for page: UInt64 in 0..<256 { #expect(!isHit(table, page)) }
    }
  }

  @Test("an entry that was taken over by a page of the other kind goes with it")
  func takenOver() {
    withTable { table in
      fill(&table, 3, isGlobal: true)
      fill(&table, 3 + UInt64(Self.count), isGlobal: false)
      table.removeAll(keepsGlobal: true)
      #expect(!isHit(table, 3 + UInt64(Self.count)))
      fill(&table, 7, isGlobal: false)
      fill(&table, 7 + UInt64(Self.count), isGlobal: true)
      table.removeAll(keepsGlobal: false)
      #expect(!isHit(table, 7 + UInt64(Self.count)))
      #expect(table.isEmpty)
    }
  }
}
