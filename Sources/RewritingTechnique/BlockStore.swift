// All translated blocks: found by key, by physical page for invalidation, by host address for faults.

import InstructionSet

/// The blocks of one processor and the links between them.
final class BlockStore {
  let translator: Translator
  private let block: StateBlock
  private var blocks: [BlockKey: Block] = [:]
  /// Blocks with bytes in a physical page. A page without an entry has never held code.
  private var pages: [UInt64: [Block]] = [:]
  /// In ascending order of host addresses.
  private var inOrder: [Block] = []
  /// Modes whose jump cache holds something.
  private var usedCaches: UInt32 = 0
  /// An address that no guest code has: not canonical.
  private static let nowhere: UInt64 = 1 << 63

  init(translator: Translator, block: StateBlock) {
    self.translator = translator
    self.block = block
    for mode in 0..<StateLayout.modeLimit { clearCache(mode) }
  }

  func find(_ key: BlockKey) -> Block? { blocks[key] }

  /// Whether the page was none before: stores to it must be watched from now on.
  func markAsCode(_ page: UInt64) -> Bool {
    if pages[page] != nil { return false }
    pages[page] = []
    return true
  }

  func isCode(_ page: UInt64) -> Bool { pages[page] != nil }

  /// - Returns: `nil` if the first instruction needs more bytes.
  func make(_ bytes: UnsafeRawBufferPointer, key: BlockKey, mode: CodeMode) -> Block? {
    guard let made = translator.translate(bytes, key: key, mode: mode) else { return nil }
    blocks[key] = made
    pages[key.page, default: []].append(made)
    if made.isStraddling { pages[key.secondPage, default: []].append(made) }
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
    guard let fault = owner.faults.first(where: { $0.start <= address && address < $0.end }) else { return nil }
    return (owner, fault)
  }

  /// Makes the jump of a `chain` site go to `target` directly.
  func link(_ site: Int, _ point: PatchPoint, from source: Block, to target: Block) {
    guard source.isValid, target.isValid, !target.isStraddling, source.key.page == target.key.page else { return }
    point.patch(to: target.host)
    target.incoming.append(site)
  }

  /// Lets indirect jumps find it.
  func remember(_ target: Block) {
    guard target.isValid, !target.isStraddling, target.key.isFlat else { return }
    let mode = target.key.mode
    let entry =
      block.words(at: StateLayout.jumpCache + Int32(mode) * StateLayout.jumpCacheSize)
      + 2 * Int(target.key.rip & UInt64(StateLayout.jumpCacheEntries - 1))
    entry[0] = target.key.rip
    entry[1] = target.host
    usedCaches |= 1 << UInt32(mode)
  }

  /// After translations of addresses, or blocks, went away.
  func forgetJumps() {
    for mode in 0..<StateLayout.modeLimit where usedCaches & 1 << UInt32(mode) != 0 { clearCache(mode) }
    usedCaches = 0
  }

  private func clearCache(_ mode: Int) {
    let entries = block.words(at: StateLayout.jumpCache + Int32(mode) * StateLayout.jumpCacheSize)
    for index in 0..<StateLayout.jumpCacheEntries { entries[2 * index] = Self.nowhere }
  }

  /// Drops the blocks that were made of any of these bytes.
  func invalidate(_ physical: UInt64, count: Int) {
    let last = physical &+ UInt64(max(count, 1) - 1)
    for page in physical >> 12...max(last >> 12, physical >> 12) {
      guard let candidates = pages[page], !candidates.isEmpty else { continue }
      let hit = candidates.filter { overlaps($0, physical, last) }
      if hit.isEmpty { continue }
      for dead in hit { remove(dead) }
      forgetJumps()
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
    dead.isValid = false
    blocks[dead.key] = nil
    pages[dead.key.page]?.removeAll { $0 === dead }
    if dead.isStraddling { pages[dead.key.secondPage]?.removeAll { $0 === dead } }
    for site in dead.incoming {
      if case .chain(let point, let unlinked) = translator.sites[site].kind { point.patch(to: unlinked) }
    }
    dead.incoming = []
  }

  /// The cache is full, or the modes' numbers begin anew.
  func removeAll() {
    blocks.removeAll(keepingCapacity: true)
    for page in pages.keys { pages[page] = [] }
    inOrder.removeAll(keepingCapacity: true)
    translator.removeAll()
    forgetJumps()
  }
}
