// What has been translated: blocks, found by key, by physical page for invalidation, by host address for faults; the pages that
// they were made of; and the numbers of the modes that they are for.
//
// All of it is the machine's. What a processor remembers of blocks, its jump caches, goes by linear address and is its own
// (`AddressTranslations`).

import TrivisorInstructionSet
import TrivisorVMM

/// The blocks of a machine.
package final class TranslationCache: @unchecked Sendable {
  // Unchecked: only the processor whose turn it is touches it (`ProcessorRendezvous`); `codePages` says itself what others may read.
  let translator: Translator
  let codePages: CodePages
  /// Where devices say what they have stored to code.
  let deviceStores: DeviceStores
  let linker: Linker
  @exclusivity(unchecked) private var table = BlockTable()
  /// In ascending order of host addresses. Owns the blocks, until all of them go at once.
  @exclusivity(unchecked) private var inOrder: [Block] = []
  /// How often everything was thrown away.
  @exclusivity(unchecked) private(set) var generation = 0
  /// By number.
  @exclusivity(unchecked) private var modes: [CodeMode] = []
  /// A bit for each mode whose code is for any linear address.
  @exclusivity(unchecked) private(set) var relativeModes: UInt64 = 0
  /// How often the modes' numbers began anew.
  @exclusivity(unchecked) private(set) var numbering = 0
  /// How many were dropped because their bytes changed.
  @exclusivity(unchecked) private(set) var invalidated: UInt64 = 0
  /// How many of the blocks in `inOrder` have been dropped.
  @exclusivity(unchecked) private var dropped = 0
  /// So many are kept until all blocks go: with what is noted of them, they are some 40 MB.
  private static let droppedLimit = 65536
  /// What each processor remembers of addresses, by its index.
  private var views: [AddressTranslations?] = []
  /// Several processors run the blocks.
  var isShared: Bool { translator.isShared }

  /// - Parameters:
  ///   - announced: which instructions there are.
  ///   - memory: of the machine.
  ///   - isShared: several processors run the blocks.
  ///   - trace: where to write what its code does.
  /// - Throws: `TechniqueFailure` when the host refuses memory.
  package init(
    announced: AnnouncedFeatures, memory: PhysicalMemory, isShared: Bool = false, trace: CodeTrace? = nil
  ) throws(TechniqueFailure) {
    translator = try Translator(announced: announced, isShared: isShared)
    translator.tracesSensitive = trace?.subject == .sensitive
    linker = Linker(translator)
    codePages = try CodePages(memory: memory)
    deviceStores = DeviceStores(codePages, memory)
  }

  deinit { table.deallocate() }

  // MARK: Modes

  /// The number of a mode, under which its blocks are found. Where there are too many, numbers begin anew, and everything goes
  /// that was translated or noted under one (see `numbering`).
  /// - Parameters:
  ///   - guess: the number that it had before, most likely.
  ///   - turn: of the processor that asks, at a safe point.
  func number(of mode: CodeMode, probably guess: UInt8, _ turn: ProcessorTurn) -> UInt8 {
    if Int(guess) < modes.count, modes[Int(guess)] == mode { return guess }
    if let known = modes.firstIndex(of: mode) { return UInt8(known) }
    if modes.count == StateLayout.modeLimit {
      turn.stopWorld()
      defer { turn.startWorld() }
      modes.removeAll()
      relativeModes = 0
      numbering += 1
      removeAll()
      return append(mode)
    }
    return append(mode)
  }

  private func append(_ mode: CodeMode) -> UInt8 {
    if mode.isRelative { relativeModes |= 1 << UInt64(modes.count) }
    modes.append(mode)
    return UInt8(modes.count - 1)
  }

  func mode(numbered number: UInt64) -> CodeMode? { number < UInt64(modes.count) ? modes[Int(number)] : nil }

  // MARK: Blocks

  /// Everything must be thrown away before the next block: it may not fit, or most of what there is was dropped. A dropped block
  /// keeps its memory until then, and code that changes itself makes more and more of them; to make the others anew costs less than
  /// those have cost.
  var isFull: Bool { translator.isFull || dropped > max(Self.droppedLimit, inOrder.count / 2) }

  @inline(__always)
  func find(_ key: BlockKey) -> Block? { table.find(key) }

  /// Whether the page was none before: stores to it must be watched from now on.
  func markAsCode(_ page: UInt64) -> Bool { codePages.mark(page) }

  @inline(__always)
  func isCode(_ page: UInt64) -> Bool { codePages.isCode(page) }

  /// Blocks are to end before a debugger's breakpoints from now on.
  /// - Parameter turn: of a processor at a safe point.
  func plan(around breakpoints: PlannedBreakpoints, _ turn: ProcessorTurn) {
    guard breakpoints != translator.breakpoints else { return }
    turn.stopWorld()
    defer { turn.startWorld() }
    translator.breakpoints = breakpoints
    removeAll()
  }

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
    for number in owner.faults {
      let fault = translator.fault(number)
      if fault.start <= offset && offset < fault.end { return (owner, fault) }
    }
    return nil
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

  /// Whoever still has the block's entry, a jump cache above all, is led out of it.
  private func remove(_ dead: Block) {
    guard dead.isValid else { return }
    dead.isValid = false
    dropped += 1
    invalidated &+= 1
    table.remove(dead)
    codePages.record(dead.key.page)?.blocks.removeAll { $0 === dead }
    if dead.isStraddling { codePages.record(dead.key.secondPage)?.blocks.removeAll { $0 === dead } }
    linker.unlink(dead)
    translator.cache.redirect(dead.entryForLookup)
  }

  /// The cache is full, or the modes' numbers begin anew.
  func removeAll() {
    generation += 1
    table.removeAll()
    codePages.removeAllBlocks()
    inOrder.removeAll(keepingCapacity: true)
    dropped = 0
    linker.forgetAll()
    translator.removeAll()
    for view in views { view?.forgetBlocks() }
  }

  // MARK: Processors

  /// - Parameter view: what a processor remembers of addresses; `nil` when it goes.
  func setView(_ view: AddressTranslations?, of processor: Int) {
    while views.count <= processor { views.append(nil) }
    views[processor] = view
  }

  /// Processors can no longer store unseen to a page that has become code. The world must stand, if there are others among them.
  /// - Parameter writers: a bit for each processor.
  func forbidStores(to host: UnsafeMutableRawPointer, by writers: UInt64) {
    for (number, view) in views.enumerated() where writers >> UInt64(number) & 1 != 0 {
      view?.forbidStores(to: host)
    }
  }
}
