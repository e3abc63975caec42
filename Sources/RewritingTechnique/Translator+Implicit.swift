// The stack, and moves with an absolute offset: memory that no ModRM names.

import InstructionSet

extension Translator {
  enum ImplicitOutcome {
    case done
    /// Carried out by Swift.
    case callOut
    case refused(String)
  }

  func translateImplicit(_ instruction: Instruction) -> ImplicitOutcome {
    // Gathers and byte masks.
    guard instruction.encoding == .legacy, instruction.opcodeMap == Instruction.OpcodeMap.oneByte else {
      return .callOut
    }
    let size = Int(instruction.operandSize)
    switch instruction.opcode {
    case 0x50...0x57:
      guard case .general(let register)? = instruction.operand(at: 0)?.kind else { return .refused("operand") }
      emitPush(size: size) { [unowned(unsafe) self] place in storeRegister(register, size: size, place) }
      return .done
    case 0x68, 0x6a:
      emitPush(size: size) { [unowned(unsafe) self] place in
        faulting {
          emitter.legacy(size == 2 ? .operandSize : [], w: size == 8, 0xc7, reg: 0, place)
          emitter.immediate(instruction.immediate, size: size == 2 ? 2 : 4)
        }
      }
      return .done
    case 0xff:
      return translatePushRM(instruction, size: size)
    case 0x58...0x5f:
      guard case .general(let register)? = instruction.operand(at: 0)?.kind else { return .refused("operand") }
      return emitPop(register, size: size)
    case 0x8f:
      return translatePopRM(instruction, size: size)
    case 0xc9:
      emitStackAddress(base: Host.rbp, size: size, isWrite: false)
      emitAccess(size: size, reads: true, writes: false, isStack: true) { [unowned(unsafe) self] place in
        faulting { emitMove(size, 0x8b, Host.t2, place) }
        emitStackPointer(base: Host.rbp, displacement: Int32(size))
        emitMove(size, 0x89, Host.t2, .register(Host.rbp))
      }
      return .done
    case 0xa0...0xa3:
      guard let memory = instruction.effects.memory.0 else { return .refused("operand") }
      let writes = instruction.opcode >= 0xa2
      let width = instruction.opcode & 1 == 0 ? 1 : size
      requireSavedFlags()
      if let failure = emitAddress(memory, size: width) { return .refused(failure) }
      emitAccess(size: width, reads: !writes, writes: writes) { [unowned(unsafe) self] place in
        faulting {
          emitter.legacy(
            width == 2 ? .operandSize : [], w: width == 8, (writes ? 0x88 : 0x8a) | (width == 1 ? 0 : 1),
            reg: Host.guestRAX, place)
        }
      }
      return .done
    case 0xa4, 0xa5, 0xaa, 0xab:
      return translateString(instruction) ? .done : .callOut
    default:
      return .callOut
    }
  }

  /// A MOV of `size` bytes, 2, 4 or 8.
  func emitMove(_ size: Int, _ opcode: UInt8, _ register: UInt8, _ place: Place) {
    emitter.legacy(size == 2 ? .operandSize : [], w: size == 8, opcode, reg: register, place)
  }

  /// Leaves the linear address of a place on the stack in T1; the host's flags have been given up. The offset has the
  /// stack's width.
  func emitStackAddress(base: UInt8 = Host.rsp, displacement: Int32 = 0, size: Int, isWrite: Bool) {
    giveUpHostFlags()
    let low = Int32(truncatingIfNeeded: shareBelow)
    emitter.lea(Host.t1, .memory(base: base, displacement: displacement &+ low), w: mode.stackSize == 8)
    if mode.stackSize == 2 {
      emitter.legacy(map: 1, 0xb7, reg: Host.t1, .register(Host.t1))  // movzwl
    }
    emitSegment(.ss, size: size, isWrite: isWrite)
  }

  /// Sets as much of RSP as the stack's width says.
  func emitStackPointer(base: UInt8 = Host.rsp, displacement: Int32) {
    emitMove(Int(mode.stackSize), 0x8d, Host.rsp, .memory(base: base, displacement: displacement))  // lea
  }

  /// Checks the place below RSP, stores there, then moves RSP.
  func emitPush(size: Int, _ store: @escaping (Place) -> Void) {
    emitStackAccess(displacement: -Int32(size), size: size, isWrite: true) { [unowned(unsafe) self] place in
      store(place)
      emitStackPointer(displacement: -Int32(size))
    }
  }

  /// An access at a distance from RSP.
  func emitStackAccess(displacement: Int32 = 0, size: Int, isWrite: Bool, _ operation: @escaping (Place) -> Void) {
    if let share = shareOfAnother {
      emitSharing(share, .custom(operation))
      return
    }
    emitStackAddress(displacement: displacement, size: size, isWrite: isWrite)
    emitAccess(size: size, reads: !isWrite, writes: isWrite, isStack: true, operation)
  }

  private func storeRegister(_ register: GeneralRegister, size: Int, _ place: Place) {
    var place = place
    let source: UInt8
    if let home = home(register) {
      source = home
    } else {
      emitter.lea(Host.t1, place)
      place = .memory(base: Host.t1)
      source = fetch(register, into: Host.t2)
    }
    faulting { emitMove(size, 0x89, source, place) }
  }

  private func emitPop(_ register: GeneralRegister, size: Int) -> ImplicitOutcome {
    emitStackAccess(size: size, isWrite: false) { [unowned(unsafe) self] place in
      if register == .rsp {
        // What is popped replaces as much of the moved pointer as it has bytes.
        faulting { emitMove(size, 0x8b, Host.t2, place) }
        emitStackPointer(displacement: Int32(size))
        emitMove(size, 0x89, Host.t2, .register(Host.rsp))
        return
      }
      let destination = home(register) ?? Host.t2
      faulting { emitMove(size, 0x8b, destination, place) }
      if home(register) == nil {
        emitMove(size, 0x89, destination, .state(StateLayout.general(register.rawValue)))
      }
      emitStackPointer(displacement: Int32(size))
    }
    return .done
  }

  /// PUSH with ModRM: memory is read first, and nothing has happened yet when the stack faults.
  private func translatePushRM(_ instruction: Instruction, size: Int) -> ImplicitOutcome {
    guard let memory = instruction.memoryOperand else {
      guard case .general(let register)? = instruction.operand(at: 0)?.kind else { return .refused("operand") }
      emitPush(size: size) { [unowned(unsafe) self] place in storeRegister(register, size: size, place) }
      return .done
    }
    if let failure = emitLoadToScratch(memory, size: size) { return .refused(failure) }
    emitPush(size: size) { [unowned(unsafe) self] place in
      emitter.lea(Host.t1, place)
      emitter.load(Host.t2, .state(StateLayout.scratch))
      faulting { emitMove(size, 0x89, Host.t2, .memory(base: Host.t1)) }
    }
    return .done
  }

  /// Loads `size` bytes, zero-extended, into the state block's scratch.
  func emitLoadToScratch(_ memory: MemoryOperand, size: Int) -> String? {
    requireSavedFlags()
    if let failure = emitAddress(memory, size: size) { return failure }
    emitAccess(size: size, reads: true, writes: false, isStack: memory.segment == .ss) { [unowned(unsafe) self] place in
      faulting { emitZeroExtended(size, Host.t2, place) }
      emitter.store(Host.t2, .state(StateLayout.scratch))
    }
    return nil
  }

  /// Loads `size` bytes, 2, 4 or 8.
  func emitZeroExtended(_ size: Int, _ register: UInt8, _ place: Place) {
    if size == 2 {
      emitter.legacy(map: 1, 0xb7, reg: register, place)
    } else {
      emitMove(size, 0x8b, register, place)
    }
  }

  /// POP with ModRM: an address that contains RSP is computed with RSP as it is afterwards.
  private func translatePopRM(_ instruction: Instruction, size: Int) -> ImplicitOutcome {
    guard let memory = instruction.memoryOperand else {
      guard case .general(let register)? = instruction.operand(at: 0)?.kind else { return .refused("operand") }
      return emitPop(register, size: size)
    }
    let isByStackPointer = memory.base == .rsp
    // There SP moves without a carry into ESP.
    if isByStackPointer, mode.stackSize == 2 { return .callOut }
    emitStackAddress(size: size, isWrite: false)
    emitAccess(size: size, reads: true, writes: false, isStack: true) { [unowned(unsafe) self] place in
      faulting { emitZeroExtended(size, Host.t2, place) }
      emitter.store(Host.t2, .state(StateLayout.scratch))
    }
    let failure = emitAddress(memory, size: size, displacement: isByStackPointer ? Int64(size) : 0)
    if let failure { return .refused(failure) }
    emitAccess(size: size, reads: false, writes: true, isStack: memory.segment == .ss) { [unowned(unsafe) self] place in
      emitter.lea(Host.t1, place)
      emitter.load(Host.t2, .state(StateLayout.scratch))
      faulting { emitMove(size, 0x89, Host.t2, .memory(base: Host.t1)) }
      emitStackPointer(displacement: Int32(size))
    }
    return .done
  }
}
