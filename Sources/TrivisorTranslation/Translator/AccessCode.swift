// Memory accesses.
//
//     lea   EA, T1                     linear address
//     rorx  $8, T1, T2                 page number × 16
//     and   $(8191 × 16), T2
//     xor   %gs:table(T2), T1          offset in the page, or something huge
//     cmp   $(4096 - size), T1
//     ja    miss
//     mov   %gs:table+8(T2), T2        the page in this process
//     op    (T2,T1)
//
// On a miss the address comes back by the same `xor`, and Swift walks the guest's page tables. RAM then gets a TLB entry
// and the check runs again. For all else (devices, pages that hold translated code, two pages at once) the instruction begins
// anew in a block of its own (`BlockKey.Variant.bouncing`), where the same operation, written a second time in the cold part, runs on
// a bounce buffer that Swift has filled and, after a store, empties.
//
// Accesses that share a check (`BlockPlan+Sharing`) find the host address in the state block.

import TrivisorInstructionSet

/// What an access is, apart from its address.
struct AccessKind {
  let size: Int
  let reads: Bool
  let writes: Bool
  /// A misaligned address is #GP before it is anything else.
  var mustBeAligned = false
  /// By SS.
  var isStack = false
  /// A pending x87 exception comes before whatever memory has to say.
  var waitsForX87 = false
}

enum AccessCode {
  // MARK: Addresses

  /// Leaves the linear address of an access in T1; clobbers T2, and the host's flags, which must have been given up.
  /// - Parameters:
  ///   - size: of the access, unless the operand says it.
  ///   - displacement: is added to the operand's.
  /// - Throws: `Refusal`, naming what stands in the way.
  static func address(
    _ memory: MemoryOperand, size: Int? = nil, displacement: Int64 = 0, _ block: inout BlockEmitter
  ) throws(Refusal) {
    try offset(memory, displacement: displacement, &block)
    segment(
      memory.segment, size: size ?? Int(memory.size), isWrite: memory.access.mayWrite,
      mustBeAligned: memory.mustBeAligned, &block)
  }

  /// Makes a linear address of the offset in T1. Outside 64-bit mode the offset is compared with the segment's end;
  /// what is not below it is for Swift to judge.
  static func segment(
    _ segment: SegmentRegister, size: Int, isWrite: Bool, mustBeAligned: Bool = false, _ block: inout BlockEmitter
  ) {
    let isOwn = segment == .fs || segment == .gs
    if block.is64 {
      if isOwn {
        let base = segment == .fs ? StateLayout.fsBase : StateLayout.gsBase
        block.code.arithmetic(.add, Host.t1, .state(base), w: true)
        block.flags.remove(.host)
      }
      return
    }
    guard !block.mode.isFlat || isOwn || (segment == .cs && isWrite) else { return }
    block.code.lea(Host.t2, .memory(base: Host.t1, displacement: Int32(size)))
    block.code.arithmetic(.cmp, Host.t2, .state(StateLayout.segmentEnd(segment, isWrite: isWrite)), w: true)
    let beyond = block.code.jump32(condition: Emitter.Condition.above)
    let check = SegmentCheck(
      register: segment, size: UInt16(size), isWrite: isWrite, mustBeAligned: mustBeAligned,
      resume: block.cache.offset(block.code.address))
    block.code.arithmetic(.add, Host.t1, .state(StateLayout.segmentBase(segment)))
    block.flags = .rax
    block.postpone(.segment(beyond, check, rip: block.rip))
  }

  /// Leaves the offset in the segment in T1, in the address's width; clobbers T2 and no flags.
  /// - Throws: `Refusal`, naming what stands in the way.
  static func offset(
    _ memory: MemoryOperand, displacement extra: Int64 = 0, _ block: inout BlockEmitter
  ) throws(Refusal) {
    let isWide = memory.addressSize == 8
    if memory.isRIPRelative {
      block.loadCodeAddress(
        Host.t1, block.nextRIP &+ UInt64(bitPattern: memory.displacement &+ extra), isWide: isWide)
      return
    }
    if memory.base == nil, memory.index == nil {
      let address = UInt64(bitPattern: memory.displacement)
      block.code.loadConstant(
        Host.t1, isWide ? address : memory.addressSize == 4 ? address & 0xffff_ffff : address & 0xffff)
      return
    }
    guard let displacement = Int32(exactly: memory.displacement &+ extra) else { throw Refusal(reason: "displacement") }
    let scale = UInt8(memory.scale.trailingZeroBitCount)
    let place: Place
    if let base = memory.base {
      let baseHost = block.fetch(base, into: Host.t1)
      if let index = memory.index {
        let indexHost = block.fetch(index, into: Host.t2)
        place = .memory(base: baseHost, index: indexHost, scale: scale, displacement: displacement)
      } else {
        place = .memory(base: baseHost, displacement: displacement)
      }
    } else if let index = memory.index {
      place = .indexed(block.fetch(index, into: Host.t2), scale: scale, displacement: displacement)
    } else {
      throw Refusal(reason: "address")
    }
    if case .memory(let base, 4, _, 0) = place {
      // A move costs nothing but its place.
      block.code.load(Host.t1, .register(base), w: isWide)
    } else {
      block.code.lea(Host.t1, place, w: isWide)
    }
    if memory.addressSize == 2 { block.code.loadZeroExtended(Host.t1, .register(Host.t1), size: 2) }
  }

  // MARK: Accesses

  /// Checks the access whose address is in T1, then writes what is done with it, here and once more in the cold part. The
  /// flags have been given up.
  static func emit(_ kind: AccessKind, _ body: AccessBody, _ block: inout BlockEmitter) {
    var access = AccessSite(
      size: UInt16(kind.size), isWrite: kind.writes, isRead: kind.reads, mustBeAligned: kind.mustBeAligned,
      isStack: kind.isStack, view: UInt8(block.mode.view), waitsForX87: kind.waitsForX87, isCall: block.isCalling)
    access.isLocked = block.isLocked
    access.retry = block.cache.offset(block.code.address)
    if let share = share(block) {
      emitAnchor(share, access, body, &block)
      return
    }
    let table = StateLayout.tlbTable(view: block.mode.view, isWrite: kind.writes)
    let miss = check(view: block.mode.view, isWrite: kind.writes, size: kind.size, &block)
    block.code.load(Host.t2, .stateIndexed(Host.t2, scale: 0, offset: table + 8))
    block.flags.remove(.host)
    let (flagsBefore, recipe, x87Notes) = (block.flags, block.recipe, block.elidedX87Notes)
    body.emit(on: .memory(base: Host.t2, index: Host.t1), &block)
    access.next = block.cache.offset(block.code.address)
    block.postpone(
      .access(
        ColdAccess(
          access: access, miss: miss, rip: block.rip, nextRIP: block.nextRIP, flagsBefore: flagsBefore, recipe: recipe,
          x87Notes: x87Notes, flagsBehind: block.flags, body: body)))
  }

  /// Leaves the offset in the page in T1 and the entry's place in T2, and jumps if the TLB does not have all of the access.
  static func check(view: Int, isWrite: Bool, size: Int, _ block: inout BlockEmitter) -> PatchPoint {
    block.code.rotateRight(Host.t2, Host.t1, by: 8)
    block.code.arithmetic(.and, .register(Host.t2), immediate: Int32(StateLayout.tlbEntries - 1) << 4)
    recoverAddress(view: view, isWrite: isWrite, &block)
    block.code.arithmetic(.cmp, .register(Host.t1), immediate: Int32(4096 - size), w: true)
    return block.code.jump32(condition: Emitter.Condition.above)
  }

  /// T1 becomes the offset in the page, or again the address.
  static func recoverAddress(view: Int, isWrite: Bool, _ block: inout BlockEmitter) {
    let table = StateLayout.tlbTable(view: view, isWrite: isWrite)
    block.code.arithmetic(.xor, Host.t1, .stateIndexed(Host.t2, scale: 0, offset: table), w: true)
  }

  // MARK: Shared checks

  /// What the instruction in work shares with others.
  static func share(_ block: borrowing BlockEmitter) -> Share? {
    guard block.position < block.plan.shares.count, let share = block.plan.shares[block.position] else { return nil }
    let group = block.plan.groups[share.group]
    guard let slot = group.slot else { return nil }
    return block.establishedSlots >> UInt64(slot) & 1 != 0 || group.anchor == block.position ? share : nil
  }

  /// What the instruction in work may take from an earlier one.
  static func shareOfAnother(_ block: borrowing BlockEmitter) -> Share? {
    guard let share = share(block), block.plan.groups[share.group].anchor != block.position else { return nil }
    return share
  }

  /// By how much the check begins below the address of the access in work.
  static func shareBelow(_ block: borrowing BlockEmitter) -> Int64 {
    guard let share = share(block) else { return 0 }
    return block.plan.groups[share.group].low
  }

  /// Checks for the whole group, and does the anchor's access. The address of the lowest byte is in T1, the flags have been
  /// given up.
  private static func emitAnchor(_ share: Share, _ access: AccessSite, _ body: AccessBody, _ block: inout BlockEmitter)
  {
    let group = block.plan.groups[share.group]
    let slot = group.slot ?? 0
    block.establishedSlots |= 1 << UInt64(slot)
    var access = access
    access.isShared = true
    let start = block.code.address
    let view = Int(access.view)
    let miss = check(view: view, isWrite: group.writes, size: Int(group.high &- group.low), &block)
    let table = StateLayout.tlbTable(view: view, isWrite: group.writes)
    block.code.load(Host.t2, .stateIndexed(Host.t2, scale: 0, offset: table + 8))
    block.code.lea(Host.t1, .memory(base: Host.t2, index: Host.t1))
    block.code.store(Host.t1, .state(StateLayout.shared(slot)))
    block.flags.remove(.host)
    let low = Int32(truncatingIfNeeded: group.low)
    block.postpone(
      .anchor(
        ColdAnchor(
          access: access, groupWrites: group.writes, low: low, start: start, miss: miss, rip: block.rip,
          flagsBefore: block.flags, recipe: block.recipe, x87Notes: block.elidedX87Notes)))
    block.resident = share.group
    body.emit(on: .memory(base: Host.t1, displacement: 0 &- low), &block)
  }

  /// Does the access of another than the anchor. Touches no flags but the operation's own.
  static func emitSharing(_ share: Share, _ body: AccessBody, _ block: inout BlockEmitter) {
    let group = block.plan.groups[share.group]
    if block.resident != share.group {
      block.code.load(Host.t1, .state(StateLayout.shared(group.slot ?? 0)))
      block.resident = share.group
    }
    body.emit(
      on: .memory(base: Host.t1, displacement: Int32(truncatingIfNeeded: share.distance &- group.low)), &block)
  }

  /// Whether T1 is behind the instruction in work what it was, or what `emitAnchor` and `emitSharing` have made of it.
  static func leavesResident(_ element: PlannedInstruction, _ block: borrowing BlockEmitter) -> Bool {
    if element.goesRound { return true }
    let (instruction, general) = (element.instruction, element.effects.general)
    guard block.resident != nil, instruction.isPlain else { return false }
    let used = general.read.union(general.written)
    let homeless: RegisterSet = [
      .init(number: GeneralRegister.r10.rawValue), .init(number: GeneralRegister.r11.rawValue),
      .init(number: GeneralRegister.r15.rawValue),
    ]
    guard used.isDisjoint(with: homeless) else { return false }
    let isSharing = share(block) != nil
    if instruction.classification == .implicitMemory {
      if case .general(.rsp)? = instruction.operand(at: 0)?.kind { return false }
      return isSharing
    }
    if instruction.hasModRMMemory, !isSharing { return false }
    // What has RAX as an operand may need registers of its own (`OwnRegistersCode`), and high bytes need a temporary.
    if instruction.feature == .base, instruction.operation == .lea || used.contains(.rax) { return false }
    for index in 0..<instruction.operandCount where instruction.field(at: index).kind == .highByte { return false }
    return true
  }
}
