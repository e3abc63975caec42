// Jumps between blocks.
//
// A direct jump within the page is patched to its target the first time it is taken: whoever is in this block is on a
// mapping of this page already. A jump to another page, and an indirect one, looks the linear RIP up in the jump cache of
// the mode, which is emptied when translations change.

import InstructionSet

extension Translator {
  /// - Returns: what stands in the way, or `nil`; nothing has been emitted then that matters.
  func translateTransfer(_ instruction: Instruction) -> String? {
    if instruction.operandSize == 2, mode.bits != .bits16 {
      return "operand size"
    }
    let size = is64 ? 8 : 4
    switch instruction.classification {
    case .jump:
      emitJump(to: target(instruction))
    case .conditionalJump:
      requireHostFlags()
      let taken = emitter.jump32(condition: instruction.opcode & 15)
      emitJump(to: nextRIP)
      taken.patch(to: emitter.address)
      flags = .host
      emitJump(to: target(instruction))
    case .loop:
      requireHostFlags()
      // E0–E3 with the count's width; the short jump goes over a near one.
      if instruction.addressSize == 4 { emitter.byte(0x67) }
      if instruction.addressSize == 2 { return "address size" }
      emitter.byte(instruction.opcode)
      emitter.byte(5)
      let past = emitter.jump32()
      emitJump(to: target(instruction))
      past.patch(to: emitter.address)
      flags = .host
      emitJump(to: nextRIP)
    case .call:
      emitPushReturnAddress(size: size)
      emitJump(to: target(instruction))
    case .nearReturn:
      let released = Int32(truncatingIfNeeded: instruction.immediateSize == 0 ? 0 : instruction.immediate & 0xffff)
      requireSavedFlags()
      emitter.lea(Host.t1, .memory(base: Host.rsp), w: is64)
      emitAccess(size: size, reads: true, writes: false, isStack: true) { [unowned self] place in
        faulting { emitter.legacy(w: is64, 0x8b, reg: Host.t1, place) }
        emitter.lea(Host.rsp, .memory(base: Host.rsp, displacement: Int32(size) + released), w: is64)
      }
      emitIndirect(released: Int64(size) + Int64(released))
    case .indirectJump, .indirectCall:
      let isCall = instruction.classification == .indirectCall
      if let memory = instruction.memoryOperand {
        if let failure = emitLoadToScratch(memory, size: size) { return failure }
        if isCall { emitPushReturnAddress(size: size) }
        emitter.load(Host.t1, .state(StateLayout.scratch))
      } else {
        guard case .general(let register)? = instruction.operand(at: 0)?.kind else { return "operand" }
        if isCall {
          // The target may be RSP, which the call changes.
          emitter.store(fetch(register, into: Host.t1), .state(StateLayout.scratch))
          emitPushReturnAddress(size: size)
          emitter.load(Host.t1, .state(StateLayout.scratch))
        } else {
          let source = fetch(register, into: Host.t1)
          if source != Host.t1 { emitter.move(Host.t1, source) }
        }
        // mov %r10d, %r10d
        if !is64 { emitter.legacy(0x89, reg: Host.t1, .register(Host.t1)) }
      }
      emitIndirect(released: isCall ? -Int64(size) : 0)
    default:
      return "control transfer"
    }
    return nil
  }

  private func target(_ instruction: Instruction) -> UInt64 {
    let target = nextRIP &+ UInt64(bitPattern: instruction.immediate)
    return is64 ? target : target & (instruction.operandSize == 2 ? 0xffff : 0xffff_ffff)
  }

  private func emitPushReturnAddress(size: Int) {
    let address = nextRIP
    isCalling = true
    emitPush(size: size) { [unowned self] place in
      emitter.lea(Host.t1, place)
      emitter.loadConstant(Host.t2, address)
      faulting { emitter.legacy(w: size == 8, 0x89, reg: Host.t2, .memory(base: Host.t1)) }
    }
  }

  /// The end of a block that goes on at `target`.
  func emitJump(to target: UInt64) {
    if target >> 12 != block.key.rip >> 12 || block.isStraddling || mode.isSingleStepping {
      emitter.loadConstant(Host.t1, target)
      emitIndirect()
      return
    }
    requireHostFlags()
    let jump = emitter.jump32()
    cold.append { [unowned self] in
      let unlinked = emitter.address
      jump.patch(to: unlinked)
      flags = .host
      emitLeave(site: addSite(.chain(jump, unlinked: unlinked), rip: target))
    }
  }

  /// The end of a block that goes on at the RIP in T1.
  func emitIndirect(released: Int64 = 0) {
    requireSavedFlags()
    emitter.store(Host.t1, .state(StateLayout.rip))
    if mode.isSingleStepping {
      emitLeave(site: addSite(.indirect(released: released), rip: rip))
      return
    }
    emitter.legacy(0x89, reg: Host.t1, .register(Host.t2))
    emitter.legacy(0x81, reg: 4, .register(Host.t2))  // and
    emitter.word32(Int32(StateLayout.jumpCacheEntries - 1))
    emitter.legacy(0xc1, reg: 4, .register(Host.t2))  // shl
    emitter.byte(4)
    let entry = StateLayout.jumpCache + Int32(block.key.mode) * StateLayout.jumpCacheSize
    emitter.legacy(w: true, 0x3b, reg: Host.t1, .stateIndexed(Host.t2, scale: 0, offset: entry))  // cmp
    let miss = emitter.jump32(condition: 5)
    emitter.restoreFlags()
    emitter.jump(.stateIndexed(Host.t2, scale: 0, offset: entry + 8))
    let rip = rip
    cold.append { [unowned self] in
      miss.patch(to: emitter.address)
      flags = .rax
      emitLeave(site: addSite(.indirect(released: released), rip: rip))
    }
  }
}
