// What has to be written behind a block's main line, as values: each holds what was true where it was put off.

import TrivisorInstructionSet

/// An access that missed the TLB.
struct ColdAccess {
  let access: AccessSite
  let miss: PatchPoint
  let rip: UInt64
  let nextRIP: UInt64
  let flagsBefore: FlagsHome
  let recipe: FlagRecipe?
  let x87Notes: X87Notes
  let flagsBehind: FlagsHome
  let body: AccessBody
}

/// A shared check that failed.
struct ColdAnchor {
  let access: AccessSite
  /// One of the accesses stores.
  let groupWrites: Bool
  /// Of the group's lowest byte, from the anchor's address.
  let low: Int32
  /// Of the check.
  let start: UInt64
  let miss: PatchPoint
  let rip: UInt64
  let flagsBefore: FlagsHome
  let recipe: FlagRecipe?
  let x87Notes: X87Notes
}

enum ColdPart {
  case access(ColdAccess)
  case anchor(ColdAnchor)
  /// An offset that is not below its segment's end.
  case segment(PatchPoint, SegmentCheck, rip: UInt64)
  /// An exception, with the flags in RAX.
  case raise(PatchPoint, TranslationFault, rip: UInt64)
  /// The unusual case of an instruction, for Swift, with the flags in RAX.
  case callOut(PatchPoint, PatchPoint?, Instruction, rip: UInt64)
  /// A jump within the page that goes to Swift until it is patched; the flags are in RAX or the host's.
  case chain(PatchPoint, target: UInt64, inRAX: Bool)
  /// A jump to another page, and the word that it goes through.
  case across(PatchPoint, target: UInt64, inRAX: Bool)
  /// A jump to another page in code for any linear address, the compare with its word, and its own end.
  case cross(PatchPoint, word: PatchPoint, jump: PatchPoint, target: UInt64, branch: Int32, released: Int32)
  /// The last of many PAUSEs; the flags are in RAX.
  case spun(PatchPoint, next: UInt64)
  /// The second page is another one; the flags are in RAX.
  case refetch(PatchPoint, word: PatchPoint, rip: UInt64, page: UInt64)
  /// What a call notes of the code behind it until that is there; the flags are in RAX, and T2 names the entry.
  case returnPoint(PatchPoint, target: UInt64, size: Int)
  /// An indirect jump that is not at the first place of the jump cache; the flags are in RAX.
  case indirect(PatchPoint, released: Int32, rip: UInt64)
  /// A return that the return cache does not know, by its address or its key; the flags are in RAX.
  case nearReturn(PatchPoint, PatchPoint, released: Int32, rip: UInt64)

  func emit(_ block: inout BlockEmitter) {
    switch self {
    case .access(let part): part.emit(&block)
    case .anchor(let part): part.emit(&block)
    case .segment(let jump, let check, let rip):
      jump.patch(to: block.code.address)
      block.flags = .rax
      block.code.store(Host.t1, .state(StateLayout.address))
      block.exit(.segment(check), rip: rip)
    case .raise(let jump, let fault, let rip):
      jump.patch(to: block.code.address)
      block.flags = .rax
      block.exit(.raise(fault), rip: rip)
    case .callOut(let jump, let other, let instruction, let rip):
      jump.patch(to: block.code.address)
      other?.patch(to: block.code.address)
      block.flags = .rax
      block.exit(block.records.callOut(instruction), rip: rip)
    case .chain(let jump, let target, let inRAX):
      let unlinked = block.code.address
      jump.patch(to: unlinked)
      block.flags = inRAX ? .rax : .host
      block.exit(
        .chain(block.cache.offset(jump.next) - 4, unlinked: block.cache.offset(unlinked), inRAX: inRAX), rip: target)
    case .across(let jump, let target, let inRAX):
      block.code.align(8)
      let slot = block.code.address
      jump.patch(to: slot)
      let unlinked = slot &+ 8
      block.code.immediate(Int64(bitPattern: unlinked), size: 8)
      block.flags = inRAX ? .rax : .host
      block.exit(
        .across(block.cache.offset(slot), unlinked: block.cache.offset(unlinked), inRAX: inRAX), rip: target)
    case .cross(let miss, let word, let jump, let target, let branch, let released):
      block.code.align(8)
      let slot = block.code.address
      word.patch(to: slot)
      block.code.immediate(Int64(bitPattern: PageCode.none), size: 8)
      jump.patch(to: block.code.address)
      if block.isShared {
        // One who has fetched the jump before it was linked, and then found the word set: the site counts from the page before.
        let pages = Int32(truncatingIfNeeded: Int64(bitPattern: target)) & ~4095
        block.code.load(Host.t1, .state(StateLayout.page))
        block.code.lea(Host.t1, .memory(base: Host.t1, displacement: 0 &- pages))
        block.code.store(Host.t1, .state(StateLayout.page))
      }
      miss.patch(to: block.code.address)
      block.flags = .rax
      block.exit(
        .cross(
          word: block.cache.offset(slot), jump: block.cache.offset(jump.next) - 4, branch: branch, released: released),
        rip: target)
    case .spun(let jump, let next):
      jump.patch(to: block.code.address)
      block.flags = .rax
      block.exit(.spun, rip: next)
    case .refetch(let jump, let word, let rip, let page):
      block.code.align(8)
      word.patch(to: block.code.address)
      block.code.immediate(Int64(bitPattern: PageCode.code(for: page)), size: 8)
      jump.patch(to: block.code.address)
      block.flags = .rax
      block.exit(.refetch, rip: rip)
    case .returnPoint(let link, let target, let size):
      let unlinked = block.code.address
      link.patch(to: unlinked)
      block.flags = .rax
      // A return without a call would come here once more.
      block.code.storeConstant64(0, TransferCode.returnEntry(Host.t2, word: 2, size: size))
      block.exit(.returnPoint(block.cache.offset(link.next) - 4, unlinked: block.cache.offset(unlinked)), rip: target)
    case .indirect(let jump, let released, let rip):
      jump.patch(to: block.code.address)
      Self.search(in: block.cache.leaves.searchSecond(mode:isRelative:), released: released, rip: rip, &block)
    case .nearReturn(let jump, let other, let released, let rip):
      jump.patch(to: block.code.address)
      other.patch(to: block.code.address)
      Self.search(in: block.cache.leaves.search(mode:isRelative:), released: released, rip: rip, &block)
    }
  }

  /// Goes on in the common code that looks into the jump cache of the block's mode, or leaves if it is not there.
  private static func search(
    in leaf: (Int, Bool) -> UInt64, released: Int32, rip: UInt64, _ block: inout BlockEmitter
  ) {
    block.flags = .rax
    let site = block.addSite(.indirect(released: released, isBranch: true), rip: rip)
    block.leave(site: site, by: leaf(block.key.modeNumber, block.mode.isRelative))
  }
}

extension ColdAccess {
  fileprivate func emit(_ block: inout BlockEmitter) {
    var access = access
    block.begin(rip: rip, next: nextRIP, keepsShadow: true)
    miss.patch(to: block.code.address)
    block.flags = flagsBefore
    block.recipe = recipe
    let site = block.addSite(.miss(access), rip: rip)
    if x87Notes.isEmpty {
      block.leaveByMiss(site: site, view: Int(access.view), isWrite: access.isWrite)
    } else {
      AccessCode.recoverAddress(view: Int(access.view), isWrite: access.isWrite, &block)
      block.code.store(Host.t1, .state(StateLayout.address))
      X87Code.write(x87Notes, &block)
      block.leave(site: site)
    }
    guard block.writesBounces else { return }
    access.bounce = block.cache.offset(block.code.address)
    block.flags = flagsBefore
    body.emit(on: .memory(base: Host.t2, index: Host.t1), &block)
    if access.isWrite {
      if block.flags != .recipe { block.requireSavedFlags() }
      block.exit(.stored(access), rip: nextRIP)
    } else {
      if flagsBehind == .host {
        block.requireHostFlags()
      } else if flagsBehind.contains(.rax) {
        block.requireSavedFlags()
      }
      block.code.jump32().patch(to: block.cache.base + UInt64(access.next))
    }
    block.records.replace(site, .miss(access))
  }
}

extension ColdAnchor {
  /// The check for the group has failed: because of the anchor itself, which then is a miss like another, or because of one
  /// of the others, whereupon the block is left for its translation without sharing.
  fileprivate func emit(_ block: inout BlockEmitter) {
    var access = access
    let view = Int(access.view)
    block.begin(rip: rip, next: block.nextRIP, keepsShadow: true)
    block.flags = flagsBefore
    block.recipe = recipe
    miss.patch(to: block.code.address)
    AccessCode.recoverAddress(view: view, isWrite: groupWrites, &block)
    if low != 0 { block.code.lea(Host.t1, .memory(base: Host.t1, displacement: 0 &- low)) }
    let ownMiss = AccessCode.check(view: view, isWrite: access.isWrite, size: Int(access.size), &block)
    X87Code.write(x87Notes, &block)
    block.requireHostFlags()
    block.alignLink(opcodeLength: 1)
    let jump = block.code.jump32()
    let unlinked = block.code.address
    jump.patch(to: unlinked)
    block.exit(.separate(block.cache.offset(jump.next) - 4, unlinked: block.cache.offset(unlinked)))
    block.flags = flagsBefore
    block.recipe = recipe
    access.retry = block.cache.offset(block.code.address)
    if low != 0 { block.code.lea(Host.t1, .memory(base: Host.t1, displacement: low)) }
    block.code.jump32().patch(to: start)
    ownMiss.patch(to: block.code.address)
    if x87Notes.isEmpty {
      block.leaveByMiss(site: block.addSite(.miss(access), rip: rip), view: view, isWrite: access.isWrite)
      return
    }
    AccessCode.recoverAddress(view: view, isWrite: access.isWrite, &block)
    block.code.store(Host.t1, .state(StateLayout.address))
    X87Code.write(x87Notes, &block)
    block.exit(.miss(access))
  }
}
