import Testing
import TrivisorVMM

@testable import TrivisorTranslation

/// Random sequences of what fills and empties a processor's TLBs, beside a list of what may be in them: every translation that was
/// filled and that nothing has made void since. What the processor finds must be on the list.
@Suite("what a processor remembers of address spaces")
struct AddressTranslationsTests {
  /// A translation that may be used.
  private struct Entry {
    /// `nil` for global ones, which are every address space's.
    let context: UInt64?
    let page: UInt64
    let shift: UInt64
    /// Of data: view, and for writes; `nil` for code.
    let access: (view: Int, isWrite: Bool)?
    let host: UInt64
    /// The protection key, of data.
    var key: UInt8 = 0

    func isIn(_ range: UInt64) -> Bool { page == range || (shift > 12 && page >> shift == range >> shift) }
  }

  private struct Model {
    var entries: [Entry] = []
    var context: UInt64 = 0

    func isCurrent(_ entry: Entry) -> Bool { entry.context == nil || entry.context == context }

    func allows(_ page: UInt64, _ access: (view: Int, isWrite: Bool)?, _ host: UInt64) -> Bool {
      entries.contains {
        isCurrent($0) && $0.page == page && $0.host == host && $0.access?.view == access?.view
          && $0.access?.isWrite == access?.isWrite
      }
    }
  }

  private static let pages: [UInt64] = [0x1000, 0x2000, 0x20_0000, 0x20_1000, 0x200_1000, 0x1_0000_1000, 0x1_0020_0000]

  @Test("nothing is found that was made void", arguments: 0..<40)
  func sequences(seed: UInt64) throws {
    let memory = try GuestMemory(size: 1 << 20)
    let machine = ProcessorModel.default
    let announced = AnnouncedFeatures(CPUIDTable(features: machine.features, processor: 0, of: 1, name: machine.name))
    let cache = try TranslationCache(announced: announced, memory: PhysicalMemory(memory))
    let block = try StateBlock()
    let translations = AddressTranslations(block, cache)
    var random = SeededGenerator(state: seed)
    var model = Model()
    var (next, foundAgain) = (UInt64(0x7000_0000_0000), 0)
    for _ in 0..<3_000 {
      let page = Self.pages.randomElement(using: &random) ?? 0
      let context = UInt64.random(in: 0..<11, using: &random)
      switch Int.random(in: 0..<40, using: &random) {
      case 0..<16:
        next += 4096
        let isGlobal = Int.random(in: 0..<4, using: &random) == 0
        let shift: UInt64 = Bool.random(using: &random) ? 12 : 21
        let access = (view: Int.random(in: 0..<3, using: &random), isWrite: Bool.random(using: &random))
        let host = try #require(UnsafeMutableRawPointer(bitPattern: UInt(next)))
        let key = UInt8(max(0, Int.random(in: -2..<4, using: &random)))
        translations.data.insert(
          page, host: host, view: access.view, isWrite: access.isWrite, isGlobal: isGlobal, shift: shift, key: key)
        model.entries.append(
          Entry(
            context: isGlobal ? nil : model.context, page: page, shift: shift, access: access, host: next, key: key))
      case 16..<22:
        next += 4096
        let isGlobal = Int.random(in: 0..<4, using: &random) == 0
        translations.code.insert(page, physical: next, isUser: true, isGlobal: isGlobal, shift: 21)
        model.entries.append(
          Entry(context: isGlobal ? nil : model.context, page: page, shift: 21, access: nil, host: next))
      case 22..<32:
        let keeps = Int.random(in: 0..<4, using: &random) != 0
        translations.enter(context, keepsTranslations: keeps)
        model.context = context
        if !keeps { model.entries.removeAll { $0.context == context } }
      case 32:
        translations.flush(.context(context))
        model.entries.removeAll { $0.context == context }
      case 33:
        translations.flush(.pageOf(page, context: context))
        model.entries.removeAll { $0.context == context && $0.isIn(page) }
      case 34, 35:
        translations.flush(.page(page))
        let current = model.context
        model.entries.removeAll { ($0.context == nil || $0.context == current) && $0.isIn(page) }
      case 36 where Bool.random(using: &random):
        // What PKRU takes, it takes from every address space.
        let keys = UInt16.random(in: 0..<16, using: &random) & UInt16.random(in: 0..<16, using: &random)
        translations.forbid(keys: keys)
        model.entries.removeAll { $0.access != nil && keys >> UInt16($0.key) & 1 != 0 }
      case 36:
        let keepsGlobal = Bool.random(using: &random)
        translations.flush(keepsGlobal ? .allButGlobal : .all)
        model.entries.removeAll { $0.context != nil || !keepsGlobal }
      case 37:
        translations.flush(for: context)
        model.entries.removeAll()
        model.context = context
      default:
        guard let victim = model.entries.randomElement(using: &random), victim.access?.isWrite == true else { continue }
        translations.forbidStores(to: try #require(UnsafeMutableRawPointer(bitPattern: UInt(victim.host))))
        model.entries.removeAll { $0.host == victim.host }
      }
      foundAgain += check(translations, model)
    }
    withExtendedLifetime(block) {}
    // It is no use if nothing ever stays.
    #expect(foundAgain > 1_000)
    #expect(translations.spacesFound > 50)
  }

  @Test("a key's pages go when it forbids them, however many there were before", arguments: [false, true])
  func keys(isGlobal: Bool) throws {
    let machine = ProcessorModel.default
    let announced = AnnouncedFeatures(CPUIDTable(features: machine.features, processor: 0, of: 1, name: machine.name))
    let memory = try GuestMemory(size: 1 << 20)
    let cache = try TranslationCache(announced: announced, memory: PhysicalMemory(memory))
    let block = try StateBlock()
    let translations = AddressTranslations(block, cache)
    defer { withExtendedLifetime(block) {} }
    let host = try #require(UnsafeMutableRawPointer(bitPattern: 0x7000_0000_0000))
    for page in UInt64(1)..<2_100 {
      translations.data.insert(
        page << 12, host: host, view: 0, isWrite: false, isGlobal: false, shift: 12, key: 1)
    }
    translations.data.insert(0x300_0000, host: host, view: 0, isWrite: false, isGlobal: isGlobal, shift: 12, key: 5)
    translations.enter(0, keepsTranslations: false)
    #expect((translations.data.find(0x300_0000, view: 0, isWrite: false) != nil) == isGlobal)
    translations.forbid(keys: 1 << 5)
    #expect(translations.data.find(0x300_0000, view: 0, isWrite: false) == nil)
  }

  /// - Returns: how many translations were found.
  private func check(_ translations: AddressTranslations, _ model: Model) -> Int {
    var found = 0
    for page in Self.pages {
      for view in 0..<3 {
        for isWrite in [false, true] {
          guard let host = translations.data.find(page, view: view, isWrite: isWrite) else { continue }
          found += 1
          #expect(model.allows(page, (view, isWrite), host), "\(page), view \(view)")
        }
      }
      guard let code = translations.code.find(page, isUser: true) else { continue }
      found += 1
      #expect(model.allows(page, nil, code.physical), "code, \(page)")
    }
    return found
  }
}
