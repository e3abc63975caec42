// The ways from one block to the next that are patched into code, and how they are taken back.
//
// Every link is noted with its target (`Block.incoming`), so that it goes when the target is dropped. A jump of code with one linear
// address to another page holds only as long as the translation of that page, so it is in a list besides, and a load of CR3
// leaves alone what leads to global pages. A jump of code for any linear address asks for the physical page each time, and needs no
// list.
//
// Neither list forgets at once what has gone: a jump whose own block was dropped, or that leads elsewhere by now. They are looked
// through when they have become twice as long (`GrowingList`), so that code which changes itself for ever costs the same each time.

import TrivisorInstructionSet

/// The links between a machine's blocks.
final class Linker {
  private let translator: Translator
  /// Links to other pages, by whether a load of CR3 takes them away.
  @exclusivity(unchecked) private var globalCrossings = GrowingList<Crossing>()
  @exclusivity(unchecked) private var localCrossings = GrowingList<Crossing>()
  @exclusivity(unchecked) private var crossed = PageFilter(count: 65536)
  /// Where several processors run the code: which physical page a `cross` site was last linked for.
  @exclusivity(unchecked) private var crossedTo: [Int: UInt64] = [:]

  /// A jump to another page that goes to its target directly, by its site.
  private struct Crossing: Comparable {
    let site: Int
    let target: UInt64

    static func < (left: Crossing, right: Crossing) -> Bool { (left.site, left.target) < (right.site, right.target) }
  }

  init(_ translator: Translator) { self.translator = translator }

  /// Makes the jump of a `chain` or `separate` site go to `target` directly.
  /// - Parameter inRAX: the flags are.
  func link(_ site: Int, _ place: UInt32, inRAX: Bool, from source: Block, to target: Block) {
    // What straddles may be on two mappings of one page.
    guard source.isValid, target.isValid, !source.isStraddling, !target.isStraddling, source.key.page == target.key.page
    else { return }
    // Jumps that only go forward in the page end before they meet again.
    let isQuick = target.key.rip > source.key.rip
    translator.cache.patch(place, to: target.entry(inRAX: inRAX, isQuick: isQuick))
    note(site, in: target)
  }

  /// Lets the call of a `returnPoint` site say that what it comes back to is `target`.
  func linkReturn(_ site: Int, _ place: UInt32, from source: Block, to target: Block) {
    guard source.isValid, target.isValid, !source.isStraddling, !target.isStraddling, source.key.page == target.key.page
    else { return }
    // What the call has noted before leads here more than once.
    guard translator.cache.patch(place, to: target.entryForLookup) else { return }
    note(site, in: target)
  }

  /// Makes the jump of an `across` site go to `target` directly, until the translation of its page goes away.
  /// - Parameter isGlobal: of the target's pages' translations.
  func linkAcross(
    _ site: Int, _ place: UInt32, unlinked: UInt32, inRAX: Bool, from source: Block, to target: Block, isGlobal: Bool
  ) {
    guard source.isValid, target.isValid else { return }
    translator.cache.set(place, to: inRAX ? target.entryForRAX : target.entryForHost)
    note(site, in: target)
    let crossing = Crossing(site: site, target: target.key.linear(target.key.rip))
    if isGlobal {
      globalCrossings.append(crossing, keeping: isLinked)
    } else {
      localCrossings.append(crossing, keeping: isLinked)
    }
    note(crossing.target)
  }

  /// Makes the jump of a `cross` site go to `target` directly, wherever its physical page is in the place of the one that it is
  /// in now.
  func linkCross(_ site: Int, word: UInt32, jump: UInt32, from source: Block, to target: Block) {
    guard source.isValid, target.isValid, PageCode.exists(for: target.key.page) else { return }
    if translator.isShared { crossedTo[site] = target.key.page }
    translator.cache.patch(jump, to: target.entryForRAX)
    translator.cache.set(word, to: PageCode.code(for: target.key.page))
    note(site, in: target)
  }

  /// Lets the target know whose jump leads to it.
  private func note(_ site: Int, in target: Block) {
    target.incoming.append(site) { translator.site($0).block.isValid }
  }

  /// Whether a jump to another page still leads anywhere directly.
  private func isLinked(_ crossing: Crossing) -> Bool {
    let site = translator.site(crossing.site)
    guard site.block.isValid, case .across(let place, let unlinked, _) = site.kind else { return false }
    return translator.cache.word(place) != translator.cache.base + UInt64(unlinked)
  }

  /// Whether such a link needs the world to stand: another processor may be between the comparison with the page that the link has led
  /// to before, and the jump.
  func mustStandForCross(_ site: Int, to target: Block) -> Bool {
    guard translator.isShared, let page = crossedTo[site] else { return false }
    return page != target.key.page
  }

  /// Takes back all links to a block that is dropped.
  func unlink(_ dead: Block) {
    for site in dead.incoming.elements {
      switch translator.site(site).kind {
      case .chain(let place, let unlinked, _), .separate(let place, let unlinked),
        .returnPoint(let place, let unlinked):
        translator.cache.patch(place, to: translator.cache.base + UInt64(unlinked))
      case .across(let place, let unlinked, _):
        translator.cache.set(place, to: translator.cache.base + UInt64(unlinked))
      case .cross(let word, _, _, _): translator.cache.set(word, to: PageCode.none)
      default: break
      }
    }
    dead.incoming.removeAll()
  }

  private func unlink(_ crossing: Crossing) {
    guard case .across(let place, let unlinked, _) = translator.site(crossing.site).kind else { return }
    translator.cache.set(place, to: translator.cache.base + UInt64(unlinked))
  }

  /// After translations of addresses went away: all of them, or all that are not global.
  func unlinkCrossings(keepsGlobal: Bool) {
    for crossing in localCrossings.elements { unlink(crossing) }
    localCrossings.removeAll()
    guard !keepsGlobal else { return }
    for crossing in globalCrossings.elements { unlink(crossing) }
    globalCrossings.removeAll()
    crossed.removeAll()
  }

  /// After translations of whole pages went away.
  func unlinkCrossings(to range: ClosedRange<UInt64>) {
    guard crossed.mayHold(range) else { return }
    func isThere(_ crossing: Crossing) -> Bool { JumpCache.mayReach(crossing.target, range) }
    for crossing in globalCrossings.elements where isThere(crossing) { unlink(crossing) }
    globalCrossings.removeAll(where: isThere)
    for crossing in localCrossings.elements where isThere(crossing) { unlink(crossing) }
    localCrossings.removeAll(where: isThere)
    guard crossed.isCrowded else { return }
    crossed.removeAll()
    for crossing in globalCrossings.elements { note(crossing.target) }
    for crossing in localCrossings.elements { note(crossing.target) }
  }

  private func note(_ target: UInt64) {
    crossed.note(target)
    if JumpCache.mayStraddle(target) { crossed.note(target &+ 4096) }
  }

  /// All blocks are gone, and their code with them.
  func forgetAll() {
    globalCrossings.removeAll()
    localCrossings.removeAll()
    crossed.removeAll()
    crossedTo.removeAll()
  }
}
