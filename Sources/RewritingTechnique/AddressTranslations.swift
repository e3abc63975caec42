// What a processor remembers of the guest's page tables: translations for data, for fetching code, and the jumps that hold
// only as long as those do. They go together, so one type owns them and forgets them.

import VMM

/// A processor's TLBs, and the jumps that rely on them.
final class AddressTranslations {
  @exclusivity(unchecked) var data: SoftwareTLB
  @exclusivity(unchecked) var code: InstructionTLB
  private let store: BlockStore
  /// How often everything went, all but global pages, and one page.
  private(set) var wholeFlushes: UInt64 = 0
  private(set) var partialFlushes: UInt64 = 0
  private(set) var pageFlushes: UInt64 = 0

  /// - Parameter block: fresh, all zero.
  init(_ block: StateBlock, _ store: BlockStore) {
    data = SoftwareTLB(block)
    code = InstructionTLB(block)
    self.store = store
  }

  deinit { code.deallocate() }

  /// Forgets every translation, or, as a load of CR3 does, all but the global ones.
  func flush(keepsGlobal: Bool = false) {
    if keepsGlobal { partialFlushes += 1 } else { wholeFlushes += 1 }
    data.removeAll(keepsGlobal: keepsGlobal)
    code.removeAll(keepsGlobal: keepsGlobal)
    store.forgetJumps(keepsGlobal: keepsGlobal)
  }

  /// INVLPG: forgets the page's translation, and all of a large page that the address is in.
  func flush(page linear: UInt64) {
    pageFlushes += 1
    data.remove(page: linear)
    for range in code.remove(page: linear) { store.forgetJumps(to: range) }
    store.forgetJumps(to: linear & ~4095...(linear | 4095))
  }
}
