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
    guard instruction.encoding == .legacy, instruction.opcodeMap == Instruction.OpcodeMap.oneByte else {
      return .refused("implicit memory")
    }
    let size = Int(instruction.operandSize)
    switch instruction.opcode {
    case 0x50...0x57:
      guard case .general(let register)? = instruction.operand(at: 0)?.kind else { return .refused("operand") }
      emitPush(size: size) { [unowned self] place in storeRegister(register, size: size, place) }
      return .done
    case 0x68, 0x6a:
      emitPush(size: size) { [unowned self] place in
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
      guard size == (is64 ? 8 : 4) else { return .refused("operand size") }
      requireSavedFlags()
      emitter.lea(Host.t1, .memory(base: 5), w: is64)
      emitAccess(size: size, reads: true, writes: false, isStack: true) { [unowned self] place in
        faulting { emitter.legacy(w: is64, 0x8b, reg: Host.t2, place) }
        emitter.lea(Host.rsp, .memory(base: 5, displacement: Int32(size)), w: is64)
        emitter.legacy(w: is64, 0x89, reg: Host.t2, .register(5))
      }
      return .done
    case 0xa0...0xa3:
      guard let memory = instruction.effects.memory.0 else { return .refused("operand") }
      let writes = instruction.opcode >= 0xa2
      let width = instruction.opcode & 1 == 0 ? 1 : size
      requireSavedFlags()
      if let failure = emitAddress(memory) { return .refused(failure) }
      emitAccess(size: width, reads: !writes, writes: writes) { [unowned self] place in
        faulting {
          emitter.legacy(
            width == 2 ? .operandSize : [], w: width == 8, (writes ? 0x88 : 0x8a) | (width == 1 ? 0 : 1),
            reg: Host.guestRAX, place)
        }
      }
      return .done
    default:
      return .callOut
    }
  }

  /// Checks the place below RSP, stores there, then moves RSP.
  func emitPush(size: Int, _ store: @escaping (Place) -> Void) {
    requireSavedFlags()
    emitter.lea(Host.t1, .memory(base: Host.rsp, displacement: -Int32(size)), w: is64)
    emitAccess(size: size, reads: false, writes: true, isStack: true) { [unowned self] place in
      store(place)
      emitter.lea(Host.rsp, .memory(base: Host.rsp, displacement: -Int32(size)), w: is64)
    }
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
    faulting { emitter.legacy(size == 2 ? .operandSize : [], w: size == 8, 0x89, reg: source, place) }
  }

  private func emitPop(_ register: GeneralRegister, size: Int) -> ImplicitOutcome {
    if register == .rsp, size == 2 { return .refused("to SP") }
    requireSavedFlags()
    emitter.lea(Host.t1, .memory(base: Host.rsp), w: is64)
    emitAccess(size: size, reads: true, writes: false, isStack: true) { [unowned self] place in
      let destination = home(register) ?? Host.t2
      let prefixes: PrefixBits = size == 2 ? .operandSize : []
      faulting { emitter.legacy(prefixes, w: size == 8, 0x8b, reg: destination, place) }
      if home(register) == nil {
        emitter.legacy(
          prefixes, w: size == 8, 0x89, reg: destination, .state(StateLayout.general(register.rawValue)))
      }
      if register != .rsp {
        emitter.lea(Host.rsp, .memory(base: Host.rsp, displacement: Int32(size)), w: is64)
      }
    }
    return .done
  }

  /// PUSH with ModRM: memory is read first, and nothing has happened yet when the stack faults.
  private func translatePushRM(_ instruction: Instruction, size: Int) -> ImplicitOutcome {
    guard let memory = instruction.memoryOperand else {
      guard case .general(let register)? = instruction.operand(at: 0)?.kind else { return .refused("operand") }
      emitPush(size: size) { [unowned self] place in storeRegister(register, size: size, place) }
      return .done
    }
    if let failure = emitLoadToScratch(memory, size: size) { return .refused(failure) }
    emitPush(size: size) { [unowned self] place in
      emitter.lea(Host.t1, place)
      emitter.load(Host.t2, .state(StateLayout.scratch))
      faulting {
        emitter.legacy(size == 2 ? .operandSize : [], w: size == 8, 0x89, reg: Host.t2, .memory(base: Host.t1))
      }
    }
    return .done
  }

  /// Loads `size` bytes, zero-extended, into the state block's scratch.
  func emitLoadToScratch(_ memory: MemoryOperand, size: Int) -> String? {
    requireSavedFlags()
    if let failure = emitAddress(memory) { return failure }
    emitAccess(size: size, reads: true, writes: false, isStack: memory.segment == .ss) { [unowned self] place in
      faulting {
        if size == 2 {
          emitter.legacy(map: 1, 0xb7, reg: Host.t2, place)
        } else {
          emitter.legacy(w: size == 8, 0x8b, reg: Host.t2, place)
        }
      }
      emitter.store(Host.t2, .state(StateLayout.scratch))
    }
    return nil
  }

  /// POP with ModRM: an address that contains RSP is computed with RSP as it is afterwards.
  private func translatePopRM(_ instruction: Instruction, size: Int) -> ImplicitOutcome {
    guard let memory = instruction.memoryOperand else {
      guard case .general(let register)? = instruction.operand(at: 0)?.kind else { return .refused("operand") }
      return emitPop(register, size: size)
    }
    guard memory.base != .rsp else { return .refused("address by RSP") }
    requireSavedFlags()
    emitter.lea(Host.t1, .memory(base: Host.rsp), w: is64)
    emitAccess(size: size, reads: true, writes: false, isStack: true) { [unowned self] place in
      faulting {
        if size == 2 {
          emitter.legacy(map: 1, 0xb7, reg: Host.t2, place)
        } else {
          emitter.legacy(w: size == 8, 0x8b, reg: Host.t2, place)
        }
      }
      emitter.store(Host.t2, .state(StateLayout.scratch))
    }
    if let failure = emitAddress(memory) { return .refused(failure) }
    emitAccess(size: size, reads: false, writes: true, isStack: memory.segment == .ss) { [unowned self] place in
      emitter.lea(Host.t1, place)
      emitter.load(Host.t2, .state(StateLayout.scratch))
      faulting {
        emitter.legacy(size == 2 ? .operandSize : [], w: size == 8, 0x89, reg: Host.t2, .memory(base: Host.t1))
      }
      emitter.lea(Host.rsp, .memory(base: Host.rsp, displacement: Int32(size)), w: is64)
    }
    return .done
  }
}
