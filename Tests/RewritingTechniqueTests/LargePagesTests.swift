import Testing

@testable import TrivisorTranslation

@Suite("large pages whose pieces a TLB holds")
struct LargePagesTests {
  private static let mebi: UInt64 = 1 << 20
  private static let gibi: UInt64 = 1 << 30

  @Test("an address takes out the page around it, once", arguments: [21, 22, 30] as [UInt64])
  func taken(shift: UInt64) {
    var pages = LargePages()
    let base = 5 * Self.gibi
    pages.note(base + 0x3000, shift: shift, isGlobal: false)
    pages.note(base + 0x4000, shift: shift, isGlobal: true)
    #expect(pages.take(around: base - 1).isEmpty)
    #expect(pages.take(around: base + (1 << shift)).isEmpty)
    #expect(pages.take(around: base + (1 << shift) - 1) == [base...(base + (1 << shift) - 1)])
    #expect(pages.take(around: base).isEmpty)
    // It may come back.
    pages.note(base + 0x3000, shift: shift, isGlobal: false)
    #expect(pages.take(around: base).count == 1)
  }

  @Test("small pages are not noted; pages within pages are all taken")
  func nested() {
    var pages = LargePages()
    pages.note(0x1000, shift: 12, isGlobal: false)
    #expect(pages.take(around: 0x1000).isEmpty)
    pages.note(3 * Self.mebi, shift: 21, isGlobal: false)
    pages.note(3 * Self.mebi, shift: 30, isGlobal: false)
    let ranges = pages.take(around: 2 * Self.mebi)
    #expect(Set(ranges) == [2 * Self.mebi...(4 * Self.mebi - 1), 0...(Self.gibi - 1)])
  }

  @Test("a page that was global and then is not is noted as both")
  func both() {
    var pages = LargePages()
    pages.note(0, shift: 21, isGlobal: true)
    pages.note(0, shift: 21, isGlobal: false)
    pages.removeAll(keepsGlobal: true)
    #expect(pages.take(around: 0).count == 1)
    pages.note(0, shift: 21, isGlobal: false)
    pages.removeAll(keepsGlobal: true)
    #expect(pages.take(around: 0).isEmpty)
    pages.note(0, shift: 21, isGlobal: false)
    #expect(pages.take(around: 0).count == 1)
  }

  @Test("more than are worth noting take everything along, once")
  func overflow() {
    var pages = LargePages()
    for page in UInt64(0)..<5000 { pages.note(page << 21, shift: 21, isGlobal: page % 2 == 0) }
    pages.removeAll(keepsGlobal: true)
    #expect(pages.take(around: 1 << 40) == [0...UInt64.max])
    #expect(pages.take(around: 0).isEmpty)
  }

  @Test("the TLB loses all of a large page in every view and leaves the rest", arguments: [21, 22, 30] as [UInt64])
  func software(shift: UInt64) throws {
    let block = try StateBlock()
    var tlb = SoftwareTLB(block)
    let size: UInt64 = 1 << shift, base = 3 * Self.gibi
    let inside = [base, base + 0x7000, base + size / 2, base + size - 0x1000]
    let outside = [base - 0x1000, base + size, 0, 0xffff_ffff_ffff_f000]
    for view in 0..<3 {
      for isWrite in [false, true] {
        for address in inside + outside {
          tlb.insert(
            address, host: block.bounce, view: view, isWrite: isWrite, isGlobal: address % 0x2000 == 0,
            shift: inside.contains(address) ? shift : 12, key: 0)
        }
      }
    }
    func count(_ addresses: [UInt64]) -> Int {
      var found = 0
      for view in 0..<3 {
        for isWrite in [false, true] {
          for address in addresses where tlb.find(address, view: view, isWrite: isWrite) != nil { found += 1 }
        }
      }
      return found
    }
    let (before, others) = (count(inside), count(outside))
    #expect(before > 0 && others > 0)
    tlb.remove(page: base + size / 4)
    #expect(count(inside) == 0)
    #expect(count(outside) == others)
  }

  @Test("so does the TLB for code", arguments: [21, 22, 30] as [UInt64])
  func code(shift: UInt64) throws {
    let block = try StateBlock()
    var tlb = InstructionTLB(block)
    defer { withExtendedLifetime(block) { tlb.deallocate() } }
    let size: UInt64 = 1 << shift, base = 3 * Self.gibi
    tlb.insert(base + 0x5000, physical: 0x1000, isUser: false, isGlobal: true, shift: shift)
    tlb.insert(base + size - 0x1000, physical: 0x2000, isUser: true, isGlobal: false, shift: shift)
    tlb.insert(base + size + 0x9000, physical: 0x3000, isUser: true, isGlobal: false, shift: 12)
    #expect(tlb.remove(page: base + size / 2) == [base...(base + size - 1)])
    #expect(tlb.find(base + 0x5000, isUser: false) == nil)
    #expect(tlb.find(base + size - 0x1000, isUser: true) == nil)
    #expect(tlb.find(base + size + 0x9123, isUser: true)?.physical == 0x3123)
  }
}
