// What a processor remembers of the guest's page tables: translations for data, for fetching code, and the jumps that hold
// only as long as those do. They go together, so one type owns them and forgets them.
//
// A jump cache has an entry for a linear RIP. Entries for pages that are global survive what global translations survive.

import TrivisorVMM

/// A processor's TLBs and jump caches.
final class AddressTranslations {
  @exclusivity(unchecked) var data: SoftwareTLB
  @exclusivity(unchecked) var code: InstructionTLB
  /// By the mode's number.
  @exclusivity(unchecked) private var jumps: [JumpCache] = []
  @exclusivity(unchecked) private var jumpPages = PageFilter()
  private let linker: Linker
  /// Told when all blocks are gone, and perhaps the modes' numbers.
  var whenBlocksGo: () -> Void = {}
  /// How often everything went, all but global pages, and one page.
  private(set) var wholeFlushes: UInt64 = 0
  private(set) var partialFlushes: UInt64 = 0
  private(set) var pageFlushes: UInt64 = 0

  /// - Parameter block: fresh, all zero.
  init(_ block: StateBlock, _ store: TranslationCache) {
    data = SoftwareTLB(block)
    code = InstructionTLB(block)
    linker = store.linker
    for mode in 0..<StateLayout.modeLimit { jumps.append(JumpCache(block, mode: mode)) }
  }

  deinit { code.deallocate() }

  /// Lets indirect jumps find a block.
  /// - Parameters:
  ///   - rip: where it is now, linear.
  ///   - isGlobal: of its pages' translations.
  func remember(_ target: Block, at rip: UInt64, isGlobal: Bool) {
    guard target.isValid, target.key.isFlat else { return }
    jumps[target.key.modeNumber].insert(target, at: rip, isGlobal: isGlobal)
    jumpPages.note(rip)
    if target.isStraddling { jumpPages.note(rip &+ 4096) }
  }

  /// All blocks are gone.
  func forgetBlocks() {
    forgetJumps(keepsGlobal: false)
    whenBlocksGo()
  }

  /// Forgets every translation, or, as a load of CR3 does, all but the global ones.
  func flush(keepsGlobal: Bool = false) {
    if keepsGlobal { partialFlushes += 1 } else { wholeFlushes += 1 }
    data.removeAll(keepsGlobal: keepsGlobal)
    code.removeAll(keepsGlobal: keepsGlobal)
    forgetJumps(keepsGlobal: keepsGlobal)
    linker.unlinkCrossings(keepsGlobal: keepsGlobal)
  }

  /// INVLPG: forgets the page's translation, and all of a large page that the address is in.
  func flush(page linear: UInt64) {
    pageFlushes += 1
    data.remove(page: linear)
    for range in code.remove(page: linear) { forgetJumps(to: range) }
    forgetJumps(to: linear & ~4095...(linear | 4095))
  }

  private func forgetJumps(keepsGlobal: Bool) {
    for mode in jumps.indices { jumps[mode].removeAll(keepsGlobal: keepsGlobal) }
    if !keepsGlobal { jumpPages.removeAll() }
  }

  private func forgetJumps(to range: ClosedRange<UInt64>) {
    if jumpPages.mayHold(range) {
      for mode in jumps.indices { jumps[mode].remove(range) }
    }
    linker.unlinkCrossings(to: range)
  }
}
