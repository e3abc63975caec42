// All translated blocks: found by key, by physical page for invalidation, by host address for faults; and the ways from
// one to the next that do without Swift: links within a page, and the jump caches.
//
// A jump cache has an entry for a linear RIP, so it holds only as long as the address translation does. Entries for
// pages that are global survive what global translations survive: a list says which do not.

import CWorldSwitch
import InstructionSet
import VMM

/// The blocks of one processor and the links between them.
final class BlockStore {
  let translator: Translator
  let codePages: CodePages
  private let block: StateBlock
  @exclusivity(unchecked) private var table = BlockTable()
  /// In ascending order of host addresses. Owns the blocks, until all of them go at once.
  @exclusivity(unchecked) private var inOrder: [Block] = []
  @exclusivity(unchecked) private var caches: [JumpCache] = []
  /// Pages of the jump caches' entries, by their low bits: what is not here need not be looked for.
  @exclusivity(unchecked) private var cachedPages = [Bool](repeating: false, count: 4096)
  /// Links to other pages, by whether a load of CR3 takes them away.
  @exclusivity(unchecked) private var globalCrossings: [Crossing] = []
  @exclusivity(unchecked) private var localCrossings: [Crossing] = []
  /// How often everything was thrown away.
  @exclusivity(unchecked) private(set) var generation = 0
  /// By number.
  @exclusivity(unchecked) private var modes: [CodeMode] = []
  /// How often the modes' numbers began anew.
  @exclusivity(unchecked) private(set) var numbering = 0
  /// How many were dropped because their bytes changed.
  @exclusivity(unchecked) private(set) var invalidated: UInt64 = 0

  init(translator: Translator, block: StateBlock, memory: GuestMemory) throws(TechniqueFailure) {
    self.translator = translator
    self.block = block
    codePages = try CodePages(memory: memory)
    for mode in 0..<StateLayout.modeLimit { caches.append(JumpCache(block, mode: mode)) }
  }

  deinit { table.deallocate() }

  @inline(__always)
  func find(_ key: BlockKey) -> Block? { table.find(key) }

  // MARK: Modes

  /// The number of a mode, under which its blocks are found. Where there are too many, numbers begin anew, and everything goes
  /// that was translated or noted under one (see `numbering`).
  /// - Parameter guess: the number that it had before, most likely.
  func number(of mode: CodeMode, probably guess: UInt8) -> UInt8 {
    if Int(guess) < modes.count, modes[Int(guess)] == mode { return guess }
    if let known = modes.firstIndex(of: mode) { return UInt8(known) }
    if modes.count == StateLayout.modeLimit {
      modes.removeAll()
      numbering += 1
      removeAll()
    }
    modes.append(mode)
    if modes.count == 1 { block.system.pointee.relative_modes = 0 }
    if mode.isRelative { block.system.pointee.relative_modes |= 1 << UInt64(modes.count - 1) }
    return UInt8(modes.count - 1)
  }

  func mode(numbered number: UInt64) -> CodeMode? { number < UInt64(modes.count) ? modes[Int(number)] : nil }

  // MARK: Blocks

  /// Whether the page was none before: stores to it must be watched from now on.
  func markAsCode(_ page: UInt64) -> Bool { codePages.mark(page) }

  @inline(__always)
  func isCode(_ page: UInt64) -> Bool { codePages.isCode(page) }

  /// - Returns: `nil` if the first instruction needs more bytes.
  func make(_ bytes: UnsafeRawBufferPointer, key: BlockKey, mode: CodeMode) -> Block? {
    guard let made = translator.translate(bytes, key: key, mode: mode) else { return nil }
    table.insert(made)
    codePages.record(key.page)?.blocks.append(made)
    if made.isStraddling { codePages.record(key.secondPage)?.blocks.append(made) }
    inOrder.append(made)
    return made
  }

  /// The instruction that a host address belongs to.
  func fault(at address: UInt64) -> (Block, FaultRange)? {
    var low = 0
    var high = inOrder.count
    while low < high {
      let middle = (low + high) / 2
      if inOrder[middle].host <= address { low = middle + 1 } else { high = middle }
    }
    guard low > 0 else { return nil }
    let owner = inOrder[low - 1]
    let offset = UInt32(truncatingIfNeeded: address &- translator.cache.base)
    for fault in translator.faults[owner.faults] where fault.start <= offset && offset < fault.end {
      return (owner, fault)
    }
    return nil
  }

  /// Makes the jump of a `chain` or `separate` site go to `target` directly.
  func link(_ site: Int, _ place: UInt32, from source: Block, to target: Block) {
    guard source.isValid, target.isValid, !target.isStraddling, source.key.page == target.key.page else { return }
    translator.cache.patch(place, to: target.host)
    target.incoming.append(site)
  }

  /// A jump to another page that goes to its target directly.
  private struct Crossing {
    let place: UInt32
    let unlinked: UInt32
    let target: UInt64
  }

  /// Makes the jump of an `across` site go to `target` directly, until the translation of its page goes away.
  /// - Parameter isGlobal: of the target's pages' translations.
  func linkAcross(
    _ site: Int, _ place: UInt32, unlinked: UInt32, from source: Block, to target: Block, isGlobal: Bool
  ) {
    guard source.isValid, target.isValid else { return }
    translator.cache.set(place, to: target.host)
    // It may have been here before a flush.
    if !target.incoming.contains(site) { target.incoming.append(site) }
    let crossing = Crossing(place: place, unlinked: unlinked, target: target.key.linear(target.key.rip))
    if isGlobal { globalCrossings.append(crossing) } else { localCrossings.append(crossing) }
    notePage(crossing.target)
    if target.isStraddling { notePage(crossing.target &+ 4096) }
  }

  private func notePage(_ linear: UInt64) { cachedPages[Int(linear >> 12 & 4095)] = true }

  private func unlink(_ crossing: Crossing) {
    translator.cache.set(crossing.place, to: translator.cache.base + UInt64(crossing.unlinked))
  }

  private func unlinkCrossings(to range: ClosedRange<UInt64>) {
    func isThere(_ crossing: Crossing) -> Bool { JumpCache.mayReach(crossing.target, range) }
    for crossing in globalCrossings where isThere(crossing) { unlink(crossing) }
    globalCrossings.removeAll(where: isThere)
    for crossing in localCrossings where isThere(crossing) { unlink(crossing) }
    localCrossings.removeAll(where: isThere)
  }

  /// Makes the jump of a `cross` site go to `target` directly, wherever its physical page is in the place of the one that it is
  /// in now.
  func linkCross(_ site: Int, word: UInt32, jump: UInt32, from source: Block, to target: Block) {
    guard source.isValid, target.isValid, PageCode.exists(for: target.key.page) else { return }
    translator.cache.patch(jump, to: target.host)
    translator.cache.set(word, to: PageCode.code(for: target.key.page))
    if !target.incoming.contains(site) { target.incoming.append(site) }
  }

  /// Lets indirect jumps find it.
  /// - Parameters:
  ///   - rip: where it is now, linear.
  ///   - isGlobal: of its pages' translations.
  func remember(_ target: Block, at rip: UInt64, isGlobal: Bool) {
    guard target.isValid, target.key.isFlat else { return }
    caches[target.key.modeNumber].insert(target, at: rip, isGlobal: isGlobal)
    notePage(rip)
    if target.isStraddling { notePage(rip &+ 4096) }
  }

  /// After translations of addresses went away: all of them, or all that are not global.
  func forgetJumps(keepsGlobal: Bool = false) {
    for mode in caches.indices { caches[mode].removeAll(keepsGlobal: keepsGlobal) }
    for crossing in localCrossings { unlink(crossing) }
    localCrossings.removeAll(keepingCapacity: true)
    if !keepsGlobal {
      for crossing in globalCrossings { unlink(crossing) }
      globalCrossings.removeAll(keepingCapacity: true)
    }
    if !keepsGlobal {
      for index in cachedPages.indices { cachedPages[index] = false }
    }
  }

  /// After translations of whole pages went away.
  func forgetJumps(to range: ClosedRange<UInt64>) {
    let first = range.lowerBound >> 12
    let last = first + min(range.upperBound >> 12 - first, UInt64(cachedPages.count - 1))
    guard (first...last).contains(where: { cachedPages[Int($0 & 4095)] }) else { return }
    for mode in caches.indices { caches[mode].remove(range) }
    unlinkCrossings(to: range)
  }

  /// Drops the blocks that were made of any of these bytes.
  func invalidate(_ physical: UInt64, count: Int) {
    let last = physical &+ UInt64(max(count, 1) - 1)
    for page in physical >> 12...max(last >> 12, physical >> 12) {
      guard let record = codePages.record(page) else { continue }
      var hasHit = false
      for candidate in record.blocks where overlaps(candidate, physical, last) {
        hasHit = true
        remove(candidate)
      }
      if !hasHit {
        // Data among code: the blocks go if that happens often, and have to wait longer when they are made again.
        record.misses += 1
        guard record.misses >= record.patience else { continue }
        record.misses = 0
        record.patience = min(record.patience * 2, 1 << 20)
        for victim in record.blocks { remove(victim) }
      }
      if record.blocks.isEmpty { codePages.unmark(page) }
    }
  }

  private func overlaps(_ candidate: Block, _ first: UInt64, _ last: UInt64) -> Bool {
    let begin = candidate.key.page << 12 | candidate.key.offset
    let inPage = min(candidate.length, 4096 - Int(begin & 4095))
    if first <= begin &+ UInt64(inPage - 1), last >= begin { return true }
    guard candidate.isStraddling, candidate.length > inPage else { return false }
    let second = candidate.key.secondPage << 12
    return first <= second &+ UInt64(candidate.length - inPage - 1) && last >= second
  }

  private func remove(_ dead: Block) {
    guard dead.isValid else { return }
    dead.isValid = false
    invalidated &+= 1
    table.remove(dead)
    codePages.record(dead.key.page)?.blocks.removeAll { $0 === dead }
    if dead.isStraddling { codePages.record(dead.key.secondPage)?.blocks.removeAll { $0 === dead } }
    if modes[dead.key.modeNumber].isRelative {
      // Jump caches may have it under any address.
      translator.cache.redirect(dead.host)
    } else {
      caches[dead.key.modeNumber].remove(dead)
    }
    for site in dead.incoming {
      switch translator.sites[site].kind {
      case .chain(let place, let unlinked), .separate(let place, let unlinked):
        translator.cache.patch(place, to: translator.cache.base + UInt64(unlinked))
      case .across(let place, let unlinked):
        translator.cache.set(place, to: translator.cache.base + UInt64(unlinked))
      case .cross(let word, _): translator.cache.set(word, to: PageCode.none)
      default: break
      }
    }
    dead.incoming = []
  }

  /// The cache is full, or the modes' numbers begin anew.
  func removeAll() {
    generation += 1
    table.removeAll()
    codePages.removeAllBlocks()
    inOrder.removeAll(keepingCapacity: true)
    forgetJumps()
    translator.removeAll()
  }
}
