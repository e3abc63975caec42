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
  @exclusivity(unchecked) private var jumpPages = PageFilter(count: 65536)
  /// How many pages more will be looked for in vain before the filter is filled anew, if it is crowded.
  private var patience = patienceAtFirst
  private static let patienceAtFirst = 64
  @exclusivity(unchecked) private var returns: ReturnCache
  /// The number of the address space that all of these are of (PCID), and what was known of others.
  private var context: UInt64 = 0
  @exclusivity(unchecked) private var others = KeptSpaces()
  private let linker: Linker
  /// Told when all blocks are gone, and perhaps the modes' numbers.
  var whenBlocksGo: () -> Void = {}
  /// How often everything went, all but global pages, and one page.
  private(set) var wholeFlushes: UInt64 = 0
  private(set) var partialFlushes: UInt64 = 0
  private(set) var pageFlushes: UInt64 = 0
  /// How often a load of CR3 has found translations that were there before.
  private(set) var spacesFound: UInt64 = 0

  /// - Parameter block: fresh, all zero.
  init(_ block: StateBlock, _ store: TranslationCache) {
    data = SoftwareTLB(block)
    code = InstructionTLB(block)
    returns = ReturnCache(block)
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
    noteJump(to: rip)
  }

  /// All blocks are gone.
  func forgetBlocks() {
    forgetJumps(keepsGlobal: false)
    others.removeJumps()
    whenBlocksGo()
  }

  /// Lets jumps find a block to which something has led that was dropped, perhaps a call.
  /// - Parameters:
  ///   - rip: where it is now, linear.
  ///   - stack: the stack pointer.
  ///   - isGlobal: of its pages' translations.
  func replace(by target: Block, at rip: UInt64, stack: UInt64, is64: Bool, isGlobal: Bool) {
    remember(target, at: rip, isGlobal: isGlobal)
    guard target.isValid, target.key.isFlat else { return }
    returns.replace(rip, releasedTo: stack, size: is64 ? 8 : 4, mode: target.key.modeNumber, by: target)
  }

  /// A load of CR3.
  /// - Parameters:
  ///   - next: the number of its address space (PCID), or 0.
  ///   - keepsTranslations: what was known of that space may be kept, because the guest says that it is still true.
  func enter(_ next: UInt64, keepsTranslations: Bool) {
    guard next != context else {
      if !keepsTranslations { flushContext() }
      return
    }
    guard data.canTake, code.canTake else {
      others.remove(next)
      context = next
      flushContext()
      return
    }
    let left = others.makeRoom(for: context, before: next)
    data.takeLocals(into: &left.data)
    code.takeLocals(into: &left.code)
    for mode in jumps.indices where jumps[mode].hasLocals { jumps[mode].takeLocals(into: &left.jumps[mode]) }
    returns.removeAll()
    linker.unlinkCrossings(keepsGlobal: true)
    context = next
    guard keepsTranslations, let found = others.take(next) else {
      others.remove(next)
      partialFlushes += 1
      return
    }
    data.putBack(&found.data)
    code.putBack(&found.code)
    for mode in jumps.indices where !found.jumps[mode].isEmpty { jumps[mode].putBack(&found.jumps[mode]) }
    spacesFound += 1
  }

  /// Forgets every translation of every address space, when the control registers have changed.
  /// - Parameter context: the number of the address space from now on.
  func flush(for context: UInt64) {
    flush()
    self.context = context
  }

  /// INVLPG, INVPCID.
  func flush(_ scope: TranslationScope) {
    switch scope {
    case .page(let linear), .pageOf(let linear, context): flush(page: linear)
    case .context(context): flushContext()
    // A page's translation goes with all that is kept of its address space.
    case .pageOf(_, let number), .context(let number): others.remove(number)
    case .allButGlobal: flush(keepsGlobal: true)
    case .all: flush()
    }
  }

  /// Forgets every translation of every address space, or all but the global ones.
  func flush(keepsGlobal: Bool = false) {
    others.removeAll()
    if keepsGlobal {
      flushContext()
      return
    }
    wholeFlushes += 1
    data.removeAll()
    code.removeAll()
    forgetJumps(keepsGlobal: false)
    linker.unlinkCrossings(keepsGlobal: false)
  }

  /// As a load of CR3 does: forgets what is not global.
  private func flushContext() {
    partialFlushes += 1
    data.removeAll(keepsGlobal: true)
    code.removeAll(keepsGlobal: true)
    forgetJumps(keepsGlobal: true)
    linker.unlinkCrossings(keepsGlobal: true)
  }

  /// INVLPG: forgets the page's translation, and all of a large page that the address is in.
  func flush(page linear: UInt64) {
    pageFlushes += 1
    data.remove(page: linear)
    for range in code.remove(page: linear) { forgetJumps(to: range) }
    forgetJumps(to: linear & ~4095...(linear | 4095))
  }

  /// PKRU takes more than before from the pages of these protection keys, a bit each.
  func forbid(keys: UInt16) {
    data.remove(keys: keys)
    // Pages with another key are not kept.
    if keys & 1 != 0 { others.removeAll() }
  }

  /// A page of RAM became code: stores to it must be seen.
  func forbidStores(to host: UnsafeMutableRawPointer) {
    data.removeWritable(host)
    others.removeWritable(UInt64(UInt(bitPattern: host)) & ~4095)
  }

  private func forgetJumps(keepsGlobal: Bool) {
    for mode in jumps.indices { jumps[mode].removeAll(keepsGlobal: keepsGlobal) }
    if !keepsGlobal { jumpPages.removeAll() }
    returns.removeAll()
  }

  /// Most of the pages that it holds are of processes that are gone.
  private func fillFilter() {
    patience -= 1
    guard patience == 0 else { return }
    jumpPages.removeAll()
    for mode in jumps.indices { jumps[mode].forEach { noteJump(to: $0) } }
    others.forEachJump { noteJump(to: $0) }
    // Where it is crowded all the same, this is not worth doing as often.
    patience = jumpPages.isCrowded ? 64 * Self.patienceAtFirst : Self.patienceAtFirst
  }

  private func noteJump(to rip: UInt64) {
    jumpPages.note(rip)
    if JumpCache.mayStraddle(rip) { jumpPages.note(rip &+ 4096) }
  }

  private func forgetJumps(to range: ClosedRange<UInt64>) {
    if jumpPages.mayHold(range) {
      for mode in jumps.indices { jumps[mode].remove(range) }
      if jumpPages.isCrowded { fillFilter() }
    }
    returns.removeAll()
    linker.unlinkCrossings(to: range)
  }
}
