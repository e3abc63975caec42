// Jumps between blocks.
//
// A direct jump within the page is patched to its target the first time it is taken: whoever is in this block is on a
// mapping of this page already. A jump to another page, and an indirect one, looks the linear RIP up in the jump cache of
// the mode, which is emptied when translations change.

import InstructionSet

extension Translator {
  /// - Returns: what stands in the way, or `nil`; nothing has been emitted then that matters.
  func translateTransfer(_ instruction: Instruction) -> String? {
    // Width of the offsets: what is pushed and popped, and how far RIP reaches.
    let size = Int(instruction.operandSize)
    switch instruction.classification {
    case .jump:
      emitBranch(to: target(instruction))
    case .conditionalJump:
      requireHostFlags()
      let target = target(instruction)
      if isLinked(to: target) {
        emitLinked(emitter.jump32(condition: instruction.opcode & 15), to: target)
        emitJump(to: nextRIP)
        return nil
      }
      let taken = emitter.jump32(condition: instruction.opcode & 15)
      emitJump(to: nextRIP)
      taken.patch(to: emitter.address)
      flags = .host
      emitBranch(to: target)
    case .loop:
      emitLoop(instruction)
    case .call:
      let target = target(instruction)
      if target > block.key.limit {
        // The stack is looked at first, and not changed.
        emitPush(size: size) { [unowned(unsafe) self] _ in emitExit(.raise(.general)) }
        return nil
      }
      emitPushReturnAddress(size: size)
      emitJump(to: target)
    case .nearReturn:
      let released = Int32(truncatingIfNeeded: instruction.immediateSize == 0 ? 0 : instruction.immediate & 0xffff)
      emitStackAccess(size: size, isWrite: false) { [unowned(unsafe) self] place in
        faulting { emitZeroExtended(size, Host.t1, place) }
        emitStackPointer(displacement: Int32(size) + released)
      }
      emitIndirect(released: Int32(size) + released)
    case .indirectJump, .indirectCall:
      let isCall = instruction.classification == .indirectCall
      if let memory = instruction.memoryOperand {
        if let failure = emitLoadToScratch(memory, size: size) { return failure }
        if isCall { emitPushReturnAddress(size: size, isIndirect: true) }
        emitter.load(Host.t1, .state(StateLayout.scratch))
      } else {
        guard case .general(let register)? = instruction.operand(at: 0)?.kind else { return "operand" }
        if isCall {
          // The target may be RSP, which the call changes.
          let source = fetch(register, into: Host.t1)
          emitter.store(source, .state(StateLayout.scratch))
          emitPushReturnAddress(size: size, isIndirect: true)
          emitter.load(Host.t1, .state(StateLayout.scratch))
        } else {
          let source = fetch(register, into: Host.t1)
          if source != Host.t1 { emitter.move(Host.t1, source) }
        }
        if size != 8 { emitZeroExtended(size, Host.t1, .register(Host.t1)) }
      }
      emitIndirect(released: isCall ? -Int32(size) : 0)
    default:
      return "control transfer"
    }
    return nil
  }

  /// #GP(0) for a call's target that is not canonical: behind the stack's faults, before anything is pushed. Clobbers T2.
  private func emitTargetCheck() {
    emitter.load(Host.t2, .state(StateLayout.scratch))
    emitter.legacy(w: true, 0xc1, reg: 7, .register(Host.t2))  // sar
    emitter.byte(47)
    emitter.legacy(0x83, reg: 0, .register(Host.t2))  // add
    emitter.byte(1)
    emitter.legacy(0x83, reg: 7, .register(Host.t2))  // cmp
    emitter.byte(1)
    flags = .rax
    let beyond = emitter.jump32(condition: 7)
    let rip = rip
    appendCold { [unowned(unsafe) self] in
      beyond.patch(to: emitter.address)
      flags = .rax
      emitLeave(site: addSite(.raise(.general), rip: rip))
    }
  }

  private func target(_ instruction: Instruction) -> UInt64 {
    let target = nextRIP &+ UInt64(bitPattern: instruction.immediate)
    switch instruction.operandSize {
    case 2: return target & 0xffff
    case 4: return target & 0xffff_ffff
    default: return target
    }
  }

  /// LOOP, LOOPE, LOOPNE, JCXZ: E0–E3 itself with the count's width; the short jump goes over a near one.
  private func emitLoop(_ instruction: Instruction) {
    requireHostFlags()
    let isShort = instruction.addressSize == 2
    if isShort {
      // A count of 16 bits is extended, and its register's upper part comes back from T1.
      emitter.move(Host.t1, Host.rcx)
      emitter.legacy(map: 1, 0xb7, reg: Host.rcx, .register(Host.rcx))  // movzwl
    }
    if instruction.addressSize == 4 { emitter.byte(0x67) }
    // To AMD's processors REP and REPNE here say which ZF ends the loop.
    if instruction.prefixes.contains(.rep) { emitter.byte(0xf3) }
    if instruction.prefixes.contains(.repne) { emitter.byte(0xf2) }
    emitter.byte(instruction.opcode)
    emitter.byte(5)
    let past = emitter.jump32()
    if isShort { emitShortCount() }
    let target = target(instruction)
    if target > block.key.limit, instruction.opcode != 0xe3 {
      // The fault leaves the count as it was.
      emitMove(Int(instruction.addressSize), 0x8d, Host.rcx, .memory(base: Host.rcx, displacement: 1))
    }
    emitBranch(to: target)
    past.patch(to: emitter.address)
    flags = .host
    if isShort { emitShortCount() }
    emitJump(to: nextRIP)
  }

  /// A call beyond CS must not push: compares `size` bytes in the scratch with the limit. The flags are in RAX.
  private func emitLimitCheck(size: Int) {
    emitZeroExtended(size, Host.t2, .state(StateLayout.scratch))
    emitter.legacy(0x81, reg: 7, .register(Host.t2))  // cmp
    emitter.word32(Int32(truncatingIfNeeded: block.key.limit))
    let beyond = emitter.jump32(condition: 7)
    flags = .rax
    let rip = rip
    appendCold { [unowned(unsafe) self] in
      beyond.patch(to: emitter.address)
      flags = .rax
      emitLeave(site: addSite(.raise(.general), rip: rip))
    }
  }

  private func emitShortCount() {
    emitMove(2, 0x89, Host.rcx, .register(Host.t1))
    emitter.move(Host.rcx, Host.t1)
  }

  /// - Parameter isIndirect: the target is in the state block's scratch.
  private func emitPushReturnAddress(size: Int, isIndirect: Bool = false) {
    let address = nextRIP
    isCalling = true
    emitPush(size: size) { [unowned(unsafe) self] place in
      emitter.lea(Host.t1, place)
      if isIndirect, size == 8 {
        emitTargetCheck()
      } else if isIndirect, !block.key.isFlat {
        emitLimitCheck(size: size)
      }
      emitter.loadConstant(Host.t2, address)
      faulting { emitMove(size, 0x89, Host.t2, .memory(base: Host.t1)) }
    }
  }

  /// A branch that is taken. Beyond CS the fault is its own.
  private func emitBranch(to target: UInt64) {
    if target > block.key.limit { emitExit(.raise(.general)) } else { emitJump(to: target) }
  }

  /// The end of a block that goes on at `target`.
  func emitJump(to target: UInt64) {
    let key = block.key
    if target > key.limit {
      emitLeave(site: addSite(.raise(.general), rip: target))
      return
    }
    if mode.isSingleStepping || !key.isFlat || (is64 && !GuestMMU.isCanonical(target)) {
      emitter.loadConstant(Host.t1, target)
      emitIndirect()
      return
    }
    if !isLinked(to: target) {
      emitJumpAcross(to: target)
      return
    }
    requireHostFlags()
    emitLinked(emitter.jump32(), to: target)
  }

  /// Whether a jump to `target` can be patched to go there: it is in the page, and not so near its end that it may straddle
  /// it.
  func isLinked(to target: UInt64) -> Bool {
    let key = block.key
    let linear = key.linear(target)
    return !mode.isSingleStepping && key.isFlat && target <= key.limit && (!is64 || GuestMMU.isCanonical(target))
      && linear >> 12 == key.linear(key.rip) >> 12 && linear & 4095 <= 4096 - 15 && !block.isStraddling
  }

  /// A jump within the page that goes to Swift until it is patched; the flags are the host's.
  func emitLinked(_ jump: PatchPoint, to target: UInt64) {
    appendCold { [unowned(unsafe) self] in
      let unlinked = emitter.address
      jump.patch(to: unlinked)
      flags = .host
      emitLeave(
        site: addSite(
          .chain(cache.offset(jump.next) - 4, unlinked: cache.offset(unlinked)), rip: target))
    }
  }

  /// A jump to another page goes through a word behind the block, which holds the target's address as long as the
  /// translation of the target's page is as it was, and else that of the way out.
  private func emitJumpAcross(to target: UInt64) {
    requireHostFlags()
    emitter.byte(0xff)  // jmp *disp(%rip)
    emitter.byte(0x25)
    emitter.word32(0)
    let operand = emitter.address &- 4
    appendCold { [unowned(unsafe) self] in
      emitter.align(8)
      let slot = emitter.address
      cache.patch(cache.offset(operand), to: slot)
      let unlinked = slot &+ 8
      emitter.immediate(Int64(bitPattern: unlinked), size: 8)
      flags = .host
      emitLeave(site: addSite(.across(cache.offset(slot), unlinked: cache.offset(unlinked)), rip: target))
    }
  }

  /// The end of a block that goes on at the RIP in T1.
  func emitIndirect(released: Int32 = 0) {
    requireSavedFlags()
    emitter.store(Host.t1, .state(StateLayout.rip))
    if mode.isSingleStepping || !block.key.isFlat {
      emitLeave(site: addSite(.indirect(released: released), rip: rip))
      return
    }
    emitter.legacy(w: true, 0x89, reg: Host.t1, .register(Host.t2))
    emitter.legacy(w: true, 0xc1, reg: 5, .register(Host.t2))  // shr
    emitter.byte(StateLayout.jumpCacheShift)
    emitter.legacy(0x31, reg: Host.t1, .register(Host.t2))  // xor
    emitter.legacy(0x81, reg: 4, .register(Host.t2))  // and
    emitter.word32(Int32(StateLayout.jumpCacheEntries - 1))
    emitter.legacy(0xc1, reg: 4, .register(Host.t2))  // shl
    emitter.byte(4)
    let entry = StateLayout.jumpCache + Int32(block.key.modeNumber) * StateLayout.jumpCacheSize
    emitter.legacy(w: true, 0x3b, reg: Host.t1, .stateIndexed(Host.t2, scale: 0, offset: entry))  // cmp
    let miss = emitter.jump32(condition: 5)
    emitter.restoreFlags()
    emitter.jump(.stateIndexed(Host.t2, scale: 0, offset: entry + 8))
    let rip = rip
    appendCold { [unowned(unsafe) self] in
      miss.patch(to: emitter.address)
      flags = .rax
      emitLeave(site: addSite(.indirect(released: released), rip: rip))
    }
  }
}
