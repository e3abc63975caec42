// One check for several accesses.
//
// Code walks structures and stacks: accesses off one base register, a few bytes apart. The first of them, the anchor, checks
// the range that all of them reach; if it lies in one page that the TLB has, for stores if one of them stores, the others
// need no check. The anchor leaves the range's host address in the state block, and each of the others takes it from there:
//
//     lea   low(EA), T1 ; check of high − low bytes ; lea (T2,T1), T1 ; mov T1, %gs:shared   the anchor
//     mov   %gs:shared, T1 ; op distance(T1)                                                 another one
//
// The range being there says more than the architecture asks for, so where it is not, the block is left for a translation of
// the same code in which each access checks for itself (`BlockKey.sharesChecks`). Nothing has happened then that would not have
// happened, in whatever order the guest's exceptions come.
//
// What is in the state block stays true until the last of the accesses: translations go away only in Swift, and from there a
// block is gone on with only behind accesses that missed.

import InstructionSet

/// Accesses at constant distances from one another.
struct SharedCheck {
  /// Where the first one is in the block.
  let anchor: Int
  /// Of all, from the anchor's address.
  var low: Int64
  var high: Int64
  var writes: Bool
  var count = 1
  /// Which word of the state block holds where the range is; `nil` if there is none left, or nobody to share it with.
  var slot: Int?
  /// The anchor has been translated.
  var isEstablished = false
}

/// What an access shares.
struct Share {
  let group: Int
  /// From the anchor's address.
  let distance: Int64
}

extension Translator {
  /// What the addresses of a group have in common.
  private struct Stream: Equatable {
    var base: GeneralRegister?
    var index: GeneralRegister?
    var scale: UInt8 = 1
    /// Off RIP, which is a constant.
    var isConstant = false
  }

  private struct Access {
    var stream: Stream
    var displacement: Int64
    var size: Int64
    var writes: Bool
  }

  private struct ActiveStream {
    let stream: Stream
    var group: Int
    /// What the registers have added since the anchor, less what the anchor's displacement was.
    var moved: Int64
  }

  /// How far apart the ends of a group may be: the farther, the more often a page ends between them.
  private static let reach: Int64 = 512

  /// Finds the groups in `decoded`.
  func planSharing() {
    groups.removeAll(keepingCapacity: true)
    shares.removeAll(keepingCapacity: true)
    guard is64, !mode.isSingleStepping, !mode.checksAccesses, block.key.sharesChecks, decoded.count > 1 else { return }
    var active: [ActiveStream] = []
    for position in decoded.indices {
      let element = decoded[position]
      shares.append(nil)
      if element.goesRound { continue }
      let instruction = element.instruction
      guard isPlain(instruction) || isStackTransfer(instruction) else {
        active.removeAll(keepingCapacity: true)
        continue
      }
      if let access = access(of: instruction, behind: block.key.rip &+ UInt64(element.end)) {
        join(access, position, &active)
      }
      let written = element.effects.general.written
      active.removeAll { move(of: $0.stream, by: instruction, written) == nil }
      for number in active.indices {
        active[number].moved &+= move(of: active[number].stream, by: instruction, written) ?? 0
      }
    }
    var slot = 0
    for number in groups.indices where groups[number].count > 1 && slot < StateLayout.sharedSlots {
      groups[number].slot = slot
      slot += 1
    }
  }

  private func join(_ access: Access, _ position: Int, _ active: inout [ActiveStream]) {
    if let number = active.firstIndex(where: { $0.stream == access.stream }) {
      let distance = active[number].moved &+ access.displacement
      var group = groups[active[number].group]
      group.low = min(group.low, distance)
      group.high = max(group.high, distance &+ access.size)
      if group.high &- group.low <= Self.reach {
        group.writes = group.writes || access.writes
        group.count += 1
        groups[active[number].group] = group
        shares[position] = Share(group: active[number].group, distance: distance)
        return
      }
      active.remove(at: number)
    }
    groups.append(SharedCheck(anchor: position, low: 0, high: access.size, writes: access.writes))
    shares[position] = Share(group: groups.count - 1, distance: 0)
    active.append(ActiveStream(stream: access.stream, group: groups.count - 1, moved: 0 &- access.displacement))
  }

  /// RET, whose memory is the stack.
  private func isStackTransfer(_ instruction: Instruction) -> Bool {
    instruction.classification == .nearReturn && instruction.operandSize == 8
  }

  private func access(of instruction: Instruction, behind next: UInt64) -> Access? {
    if instruction.classification == .nearReturn {
      return Access(stream: Stream(base: .rsp), displacement: 0, size: 8, writes: false)
    }
    if instruction.classification == .implicitMemory {
      guard instruction.operandSize == 8 else { return nil }
      let isPush = instruction.opcode < 0x58
      return Access(stream: Stream(base: .rsp), displacement: isPush ? -8 : 0, size: 8, writes: isPush)
    }
    guard !instruction.isHint, let memory = instruction.memoryOperand, memory.source == .modRM, memory.addressSize == 8,
      abs(memory.displacement) < Int64(Int32.max) - Self.reach,
      (1...64).contains(memory.size), memory.segment != .fs, memory.segment != .gs,
      memory.access.mayRead || memory.access.mayWrite, !instruction.addressesBitString
    else { return nil }
    var access = Access(
      stream: Stream(base: memory.base, index: memory.index, scale: memory.scale), displacement: memory.displacement,
      size: Int64(memory.size), writes: memory.access.mayWrite)
    if memory.isRIPRelative {
      access.stream = Stream(isConstant: true)
      access.displacement = Int64(bitPattern: next) &+ memory.displacement
    } else if memory.base == nil {
      return nil
    }
    return access
  }

  /// By how much an instruction moves the addresses of a stream, if that is a constant.
  private func move(of stream: Stream, by instruction: Instruction, _ written: RegisterSet) -> Int64? {
    var distance: Int64 = 0
    if let base = stream.base, written.contains(base) {
      guard let change = change(of: base, by: instruction) else { return nil }
      distance = change
    }
    if let index = stream.index, written.contains(index) {
      guard let change = change(of: index, by: instruction) else { return nil }
      distance &+= change &* Int64(stream.scale)
    }
    return distance
  }

  /// By how much an instruction changes a register that it writes, if that is a constant.
  private func change(of register: GeneralRegister, by instruction: Instruction) -> Int64? {
    guard instruction.encoding == .legacy, instruction.opcodeMap == Instruction.OpcodeMap.oneByte else { return nil }
    if instruction.classification == .implicitMemory {
      guard register == .rsp, instruction.operandSize == 8 else { return nil }
      if instruction.opcode < 0x58 { return -8 }
      if case .general(.rsp)? = instruction.operand(at: 0)?.kind { return nil }
      return 8
    }
    guard instruction.operandSize == 8, case .general(register)? = instruction.operand(at: 0)?.kind else { return nil }
    switch instruction.opcode {
    case 0x81, 0x83:
      switch instruction.reg {
      case 0: return instruction.immediate
      case 5: return 0 &- instruction.immediate
      default: return nil
      }
    case 0xff where !instruction.hasModRMMemory:
      return instruction.reg == 0 ? 1 : instruction.reg == 1 ? -1 : nil
    case 0x8d:
      guard let memory = instruction.memoryOperand, memory.base == register, memory.index == nil,
        memory.addressSize == 8
      else { return nil }
      return memory.displacement
    default: return nil
    }
  }

  // MARK: Emission

  /// What the instruction in work shares with others.
  var share: Share? {
    guard position < shares.count, let share = shares[position] else { return nil }
    let group = groups[share.group]
    return group.slot != nil && (group.isEstablished || group.anchor == position) ? share : nil
  }

  /// What the instruction in work may take from an earlier one.
  var shareOfAnother: Share? { share.flatMap { groups[$0.group].anchor == position ? nil : $0 } }

  /// By how much the check begins below the address of the access in work.
  var shareBelow: Int64 { share.map { groups[$0.group].low } ?? 0 }

  /// Checks for the whole group, and does the anchor's access. The address of the lowest byte is in T1, the flags have been
  /// given up.
  func emitAnchor(_ share: Share, access: AccessSite, _ operation: AccessOperation) {
    groups[share.group].isEstablished = true
    let group = groups[share.group]
    var access = access
    access.isShared = true
    let start = emitter.address
    let miss = emitCheck(
      view: Int(access.view), isWrite: group.writes, size: Int(group.high &- group.low))
    emitter.load(
      Host.t2,
      .stateIndexed(Host.t2, scale: 0, offset: StateLayout.tlbTable(view: Int(access.view), isWrite: group.writes) + 8))
    emitter.lea(Host.t1, .memory(base: Host.t2, index: Host.t1))
    emitter.store(Host.t1, .state(StateLayout.shared(group.slot ?? 0)))
    flags.remove(.host)
    let (flagsBefore, recipe, rip) = (flags, recipe, rip)
    let low = Int32(truncatingIfNeeded: group.low)
    appendCold { [unowned(unsafe) self] in
      self.rip = rip
      flags = flagsBefore
      self.recipe = recipe
      miss.patch(to: emitter.address)
      let table = StateLayout.tlbTable(view: Int(access.view), isWrite: group.writes)
      emitter.legacy(w: true, 0x33, reg: Host.t1, .stateIndexed(Host.t2, scale: 0, offset: table))
      if low != 0 { emitter.lea(Host.t1, .memory(base: Host.t1, displacement: 0 &- low)) }
      emitAnchorMiss(access, low: low, start: start)
    }
    resident = share.group
    emit(operation, on: .memory(base: Host.t1, displacement: 0 &- low))
  }

  /// The anchor's address is in T1, and the check for the group has failed: because of the anchor itself, or of another one.
  private func emitAnchorMiss(_ access: AccessSite, low: Int32, start: UInt64) {
    var access = access
    let (flagsBefore, recipe) = (flags, recipe)
    let miss = emitCheck(view: Int(access.view), isWrite: access.isWrite, size: Int(access.size))
    requireHostFlags()
    let jump = emitter.jump32()
    let unlinked = emitter.address
    jump.patch(to: unlinked)
    emitLeave(
      site: addSite(.separate(cache.offset(jump.next) - 4, unlinked: cache.offset(unlinked)), rip: rip))
    flags = flagsBefore
    self.recipe = recipe
    access.retry = cache.offset(emitter.address)
    if low != 0 { emitter.lea(Host.t1, .memory(base: Host.t1, displacement: low)) }
    emitter.jump32().patch(to: start)
    miss.patch(to: emitter.address)
    let table = StateLayout.tlbTable(view: Int(access.view), isWrite: access.isWrite)
    emitter.legacy(w: true, 0x33, reg: Host.t1, .stateIndexed(Host.t2, scale: 0, offset: table))
    emitter.store(Host.t1, .state(StateLayout.address))
    emitLeave(site: addSite(.miss(access), rip: rip))
  }

  /// Does the access of another than the anchor. Touches no flags but the operation's own.
  func emitSharing(_ share: Share, _ operation: AccessOperation) {
    let group = groups[share.group]
    if resident != share.group {
      emitter.load(Host.t1, .state(StateLayout.shared(group.slot ?? 0)))
      resident = share.group
    }
    emit(operation, on: .memory(base: Host.t1, displacement: Int32(truncatingIfNeeded: share.distance &- group.low)))
  }

  /// Whether T1 is behind the instruction in work what it was, or what `emitAnchor` and `emitSharing` have made of it.
  func leavesAddress() -> Bool {
    let element = decoded[position]
    if element.goesRound { return true }
    let (instruction, general) = (element.instruction, element.effects.general)
    guard resident != nil, isPlain(instruction) else { return false }
    let used = general.read.union(general.written)
    let homeless: RegisterSet = [
      .init(number: GeneralRegister.r10.rawValue), .init(number: GeneralRegister.r11.rawValue),
      .init(number: GeneralRegister.r15.rawValue),
    ]
    guard used.isDisjoint(with: homeless) else { return false }
    if instruction.classification == .implicitMemory {
      if case .general(.rsp)? = instruction.operand(at: 0)?.kind { return false }
      return share != nil
    }
    if instruction.hasModRMMemory, share == nil { return false }
    // What has RAX as an operand may need registers of its own (`Translator+Swapped`), and high bytes need a temporary.
    if instruction.feature == .base {
      let isLEA = instruction.opcodeMap == Instruction.OpcodeMap.oneByte && instruction.opcode == 0x8d
      if isLEA || used.contains(.rax) { return false }
    }
    for index in 0..<instruction.operandCount {
      if case .highByte? = instruction.operand(at: index)?.kind { return false }
    }
    return true
  }
}
