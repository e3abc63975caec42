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
// the same code in which each access checks for itself (`BlockKey.Variant`). Nothing has happened then that would not have
// happened, in whatever order the guest's exceptions come.
//
// What is in the state block stays true until the last of the accesses: translations go away only in Swift, and from there a
// block is gone on with only behind accesses that missed.

import TrivisorInstructionSet

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
}

/// What an access shares.
struct Share {
  let group: Int
  /// From the anchor's address.
  let distance: Int64
}

extension BlockPlan {
  /// What the addresses of a group have in common.
  struct Stream: Equatable {
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

  struct ActiveStream {
    let stream: Stream
    var group: Int
    /// What the registers have added since the anchor, less what the anchor's displacement was.
    var moved: Int64
  }

  /// How far apart the ends of a group may be: the farther, the more often a page ends between them.
  private static let reach: Int64 = 512

  /// Finds the groups.
  mutating func planSharing() {
    guard is64, !key.isStraddling, !mode.isSingleStepping, !mode.checksAccesses, key.variant == .usual,
      instructions.count > 1
    else { return }
    active.removeAll()
    for position in instructions.indices {
      let element = instructions[position]
      shares.append(nil)
      if element.goesRound { continue }
      let instruction = element.instruction
      guard instruction.isPlain || isStackTransfer(instruction) else {
        active.removeAll()
        continue
      }
      if let access = access(of: instruction, behind: key.rip &+ UInt64(element.end)) {
        join(access, position)
      }
      let written = element.effects.general.written
      if !active.isEmpty, !written.isEmpty { moveStreams(by: instruction, written) }
    }
    var slot = 0
    for number in groups.indices where groups[number].count > 1 && slot < StateLayout.sharedSlots {
      groups[number].slot = slot
      slot += 1
    }
  }

  /// Forgets the streams whose registers an instruction changes by who knows what.
  private mutating func moveStreams(by instruction: Instruction, _ written: RegisterSet) {
    var kept = 0
    for number in active.indices {
      guard let distance = move(of: active[number].stream, by: instruction, written) else { continue }
      var stream = active[number]
      stream.moved &+= distance
      active[kept] = stream
      kept += 1
    }
    active.removeLast(active.count - kept)
  }

  private mutating func join(_ access: Access, _ position: Int) {
    if let number = active.indices.first(where: { active[$0].stream == access.stream }) {
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
      let isPush = instruction.operation == .push
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
    guard instruction.encoding == .legacy, let first = instruction.operand(at: 0) else { return nil }
    if instruction.classification == .implicitMemory {
      guard register == .rsp, instruction.operandSize == 8 else { return nil }
      switch instruction.operation {
      case .push: return -8
      case .pop:
        if case .general(.rsp) = first.kind { return nil }
        return 8
      default: return nil
      }
    }
    guard first.size == 8, case .general(register) = first.kind else { return nil }
    switch instruction.operation {
    case .add where instruction.hasModRM && instruction.immediateSize != 0: return instruction.immediate
    case .sub where instruction.hasModRM && instruction.immediateSize != 0: return 0 &- instruction.immediate
    case .inc: return 1
    case .dec: return -1
    case .lea:
      guard let memory = instruction.memoryOperand, memory.base == register, memory.index == nil,
        memory.addressSize == 8
      else { return nil }
      return memory.displacement
    default: return nil
    }
  }
}
