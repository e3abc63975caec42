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
// and the check runs again. For all else (devices, pages that hold translated code, two pages at once) the same
// operation, written a second time in the block's cold part, runs on a bounce buffer that Swift has filled and, after a
// store, empties.

import InstructionSet

/// What is done with the memory of an access.
enum AccessOperation {
  case operation(Instruction, OperationShape, Effects)
  case custom((Place) -> Void)
}

/// What has to be written behind the block's main line.
enum ColdPart {
  case access(ColdAccess)
  case custom(() -> Void)
}

/// An access that missed the TLB.
struct ColdAccess {
  let access: AccessSite
  let miss: PatchPoint
  let rip: UInt64
  let nextRIP: UInt64
  let flagsBefore: FlagsHome
  let recipe: FlagRecipe?
  let flagsBehind: FlagsHome
  let operation: AccessOperation
}

extension Translator {
  /// Leaves the linear address of an access in T1; clobbers T2, and the host's flags, which must have been given up.
  /// - Parameters:
  ///   - size: of the access, unless the operand says it.
  ///   - displacement: is added to the operand's.
  /// - Returns: what stands in the way, or `nil`.
  func emitAddress(_ memory: MemoryOperand, size: Int? = nil, displacement: Int64 = 0) -> String? {
    if let failure = emitOffset(memory, displacement: displacement) { return failure }
    emitSegment(
      memory.segment, size: size ?? Int(memory.size), isWrite: memory.access.mayWrite,
      mustBeAligned: memory.mustBeAligned)
    return nil
  }

  /// Makes a linear address of the offset in T1. Outside 64-bit mode the offset is compared with the segment's end;
  /// what is not below it is for Swift to judge.
  func emitSegment(_ segment: SegmentRegister, size: Int, isWrite: Bool, mustBeAligned: Bool = false) {
    let isOwn = segment == .fs || segment == .gs
    if is64 {
      if isOwn {
        let base = segment == .fs ? StateLayout.fsBase : StateLayout.gsBase
        emitter.legacy(w: true, 0x03, reg: Host.t1, .state(base))
        flags.remove(.host)
      }
      return
    }
    guard !mode.isFlat || isOwn || (segment == .cs && isWrite) else { return }
    emitter.lea(Host.t2, .memory(base: Host.t1, displacement: Int32(size)))
    emitter.legacy(w: true, 0x3b, reg: Host.t2, .state(StateLayout.segmentEnd(segment, isWrite: isWrite)))  // cmp
    let beyond = emitter.jump32(condition: 7)
    let check = SegmentCheck(
      register: segment, size: UInt16(size), isWrite: isWrite, mustBeAligned: mustBeAligned,
      resume: cache.offset(emitter.address))
    emitter.legacy(0x03, reg: Host.t1, .state(StateLayout.segmentBase(segment)))
    flags = .rax
    let rip = rip
    appendCold { [unowned(unsafe) self] in
      self.rip = rip
      beyond.patch(to: emitter.address)
      flags = .rax
      emitter.store(Host.t1, .state(StateLayout.address))
      emitLeave(site: addSite(.segment(check), rip: rip))
    }
  }

  /// Leaves the offset in the segment in T1, in the address's width; clobbers T2 and no flags.
  /// - Returns: what stands in the way, or `nil`.
  func emitOffset(_ memory: MemoryOperand, displacement extra: Int64 = 0) -> String? {
    let isWide = memory.addressSize == 8
    if memory.isRIPRelative {
      let address = nextRIP &+ UInt64(bitPattern: memory.displacement &+ extra)
      emitter.loadConstant(Host.t1, isWide ? address : address & 0xffff_ffff)
    } else if memory.base == nil, memory.index == nil {
      let address = UInt64(bitPattern: memory.displacement)
      emitter.loadConstant(
        Host.t1, isWide ? address : memory.addressSize == 4 ? address & 0xffff_ffff : address & 0xffff)
    } else {
      guard let displacement = Int32(exactly: memory.displacement &+ extra) else { return "displacement" }
      let scale = UInt8(memory.scale.trailingZeroBitCount)
      let place: Place
      if let base = memory.base {
        let baseHost = fetch(base, into: Host.t1)
        if let index = memory.index {
          let indexHost = fetch(index, into: Host.t2)
          place = .memory(base: baseHost, index: indexHost, scale: scale, displacement: displacement)
        } else {
          place = .memory(base: baseHost, displacement: displacement)
        }
      } else if let index = memory.index {
        place = .indexed(fetch(index, into: Host.t2), scale: scale, displacement: displacement)
      } else {
        return "address"
      }
      if case .memory(let base, 4, _, 0) = place {
        // A move costs nothing but its place.
        emitter.legacy(w: isWide, 0x8b, reg: Host.t1, .register(base))
      } else {
        emitter.lea(Host.t1, place, w: isWide)
      }
      if memory.addressSize == 2 {
        // movzwl
        emitter.legacy(map: 1, 0xb7, reg: Host.t1, .register(Host.t1))
      }
    }
    return nil
  }

  /// Checks the access whose address is in T1, then runs `operation` on it, in the main line and once more in the cold
  /// part. `operation` must leave the flags' home the same both times.
  func emitAccess(
    size: Int, reads: Bool, writes: Bool, mustBeAligned: Bool = false, isStack: Bool = false,
    _ operation: @escaping (Place) -> Void
  ) {
    emitAccess(
      size: size, reads: reads, writes: writes, mustBeAligned: mustBeAligned, isStack: isStack, .custom(operation))
  }

  func emitAccess(
    size: Int, reads: Bool, writes: Bool, mustBeAligned: Bool = false, isStack: Bool = false,
    waitsForX87: Bool = false, _ operation: AccessOperation
  ) {
    // The address is in T1, the flags have been given up.
    var access = AccessSite(
      size: UInt16(size), isWrite: writes, isRead: reads, mustBeAligned: mustBeAligned, isStack: isStack,
      view: UInt8(mode.view),
      waitsForX87: waitsForX87, isCall: isCalling)
    access.retry = cache.offset(emitter.address)
    if let share {
      emitAnchor(share, access: access, operation)
      return
    }
    let table = StateLayout.tlbTable(view: mode.view, isWrite: writes)
    let miss = emitCheck(view: mode.view, isWrite: writes, size: size)
    emitter.load(Host.t2, .stateIndexed(Host.t2, scale: 0, offset: table + 8))
    flags.remove(.host)
    let flagsBefore = flags
    let recipe = recipe
    let place = Place.memory(base: Host.t2, index: Host.t1)
    emit(operation, on: place)
    let flagsBehind = flags
    access.next = cache.offset(emitter.address)
    cold.append(
      .access(
        ColdAccess(
          access: access, miss: miss, rip: rip, nextRIP: nextRIP, flagsBefore: flagsBefore, recipe: recipe,
          flagsBehind: flagsBehind, operation: operation)))
  }

  /// Leaves the offset in the page in T1 and the entry's place in T2, and jumps if the TLB does not have all of the access.
  func emitCheck(view: Int, isWrite: Bool, size: Int) -> PatchPoint {
    emitter.rotateRight(Host.t2, Host.t1, by: 8)
    emitter.legacy(0x81, reg: 4, .register(Host.t2))  // and
    emitter.word32(Int32(StateLayout.tlbEntries - 1) << 4)
    let table = StateLayout.tlbTable(view: view, isWrite: isWrite)
    emitter.legacy(w: true, 0x33, reg: Host.t1, .stateIndexed(Host.t2, scale: 0, offset: table))  // xor
    emitter.legacy(w: true, 0x81, reg: 7, .register(Host.t1))  // cmp
    emitter.word32(Int32(4096 - size))
    return emitter.jump32(condition: 7)
  }

  func emit(_ operation: AccessOperation, on place: Place) {
    switch operation {
    case .operation(let instruction, let shape, let effects):
      self.effects = effects
      emitOperation(instruction, shape, place)
    case .custom(let body): body(place)
    }
  }

  /// The cold part of an access.
  func emitCold(_ part: ColdAccess) {
    var access = part.access
    rip = part.rip
    nextRIP = part.nextRIP
    part.miss.patch(to: emitter.address)
    flags = part.flagsBefore
    recipe = part.recipe
    let tag = Place.stateIndexed(
      Host.t2, scale: 0, offset: StateLayout.tlbTable(view: Int(access.view), isWrite: access.isWrite))
    emitter.legacy(w: true, 0x33, reg: Host.t1, tag)
    emitter.store(Host.t1, .state(StateLayout.address))
    let leave = addSite(.miss(access), rip: rip)
    emitLeave(site: leave)
    access.bounce = cache.offset(emitter.address)
    flags = part.flagsBefore
    emit(part.operation, on: .memory(base: Host.t2, index: Host.t1))
    if access.isWrite {
      if flags != .recipe { requireSavedFlags() }
      emitLeave(site: addSite(.stored(access), rip: nextRIP))
    } else {
      if part.flagsBehind == .host {
        requireHostFlags()
      } else if part.flagsBehind.contains(.rax) {
        requireSavedFlags()
      }
      emitter.jump32().patch(to: cache.base + UInt64(access.next))
    }
    replaceSite(leave, .miss(access))
  }
}
