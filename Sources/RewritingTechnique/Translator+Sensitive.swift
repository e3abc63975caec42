// Sensitive instructions that are met so often that a call-out would cost more than all the rest: they work on the state
// block. Everything unusual about them is left to the call-out.

import InstructionSet

extension Translator {
  /// - Returns: whether the instruction was written; if not, nothing was, and a call-out carries it out.
  func translateSensitive(_ instruction: Instruction) -> Bool {
    guard !mode.isSingleStepping, !tracesSensitive, instruction.encoding == .legacy else { return false }
    switch (instruction.opcodeMap, instruction.opcode) {
    case (Instruction.OpcodeMap.oneByte, 0xfa) where mode.isKernel:
      emitStoreConstant(0, .state(StateLayout.interruptFlag))
    case (Instruction.OpcodeMap.oneByte, 0xfb) where mode.isKernel:
      emitEnableInterrupts(instruction)
    case (Instruction.OpcodeMap.oneByte, 0x9c) where is64 && instruction.operandSize == 8:
      emitPushFlags()
    case (Instruction.OpcodeMap.oneByte, 0x9d): return translatePopFlags(instruction)
    case (Instruction.OpcodeMap.escape0F, 0x31) where is64 && !mode.restrictsTimestamp:
      emitTimestamp()
    case (Instruction.OpcodeMap.escape0F, 0x01) where is64 && instruction.modRM == 0xf8 && mode.isKernel:
      emitter.load(Host.t1, .state(StateLayout.gsBase))
      emitter.load(Host.t2, .state(StateLayout.kernelGSBase))
      emitter.store(Host.t1, .state(StateLayout.kernelGSBase))
      emitter.store(Host.t2, .state(StateLayout.gsBase))
    case (Instruction.OpcodeMap.escape0F, 0x01) where is64 && instruction.modRM == 0xf9 && !mode.restrictsTimestamp:
      emitTimestamp()
      emitter.load(Host.rcx, .state(StateLayout.timestampAuxiliary))
    case (Instruction.OpcodeMap.oneByte, 0x8c) where !instruction.hasModRMMemory:
      guard let segment = SegmentRegister(rawValue: instruction.reg) else { return false }
      emitter.load(Host.t1, .state(StateLayout.selector(segment)))
      emitSet(registerOfRM(instruction), size: Int(instruction.operandSize))
    case (Instruction.OpcodeMap.escape0F, 0x20) where is64 && mode.isKernel:
      let number = Int(instruction.reg)
      guard instruction.rex & 4 == 0, !instruction.prefixes.contains(.lock), [0, 2, 3, 4].contains(number) else {
        return false
      }
      emitter.load(Host.t1, .state(StateLayout.control(number)))
      emitSet(registerOfRM(instruction), size: 8)
    case (Instruction.OpcodeMap.escape0F, 0xae)
    where is64 && instruction.simdPrefix == 2 && !instruction.hasModRMMemory && instruction.reg < 4:
      emitSegmentBase(instruction)
    default: return false
    }
    return true
  }

  private func registerOfRM(_ instruction: Instruction) -> GeneralRegister {
    GeneralRegister(rawValue: instruction.rm | instruction.rex << 3 & 8) ?? .rax
  }

  /// Writes T1, of which no more than `size` bytes are not 0, as the processor writes a register.
  private func emitSet(_ register: GeneralRegister, size: Int) {
    if let home = home(register) {
      emitMove(size, 0x89, Host.t1, .register(home))
    } else {
      emitMove(size == 2 ? 2 : 8, 0x89, Host.t1, .state(StateLayout.general(register.rawValue)))
    }
  }

  /// RDFSBASE, RDGSBASE, WRFSBASE, WRGSBASE: undefined unless CR4 says otherwise.
  private func emitSegmentBase(_ instruction: Instruction) {
    let size = Int(instruction.operandSize)
    let base = Place.state(instruction.reg & 1 == 0 ? StateLayout.fsBase : StateLayout.gsBase)
    let register = registerOfRM(instruction)
    var unusual: [PatchPoint] = []
    requireSavedFlags()
    emitter.legacy(0xf7, reg: 0, .state(StateLayout.control(4)))  // test
    emitter.word32(0x1_0000)
    unusual.append(emitter.jump32(condition: 4))
    if instruction.reg < 2 {
      emitMove(size, 0x8b, Host.t1, base)
      emitSet(register, size: size)
    } else {
      emitMove(size, 0x89, fetch(register, into: Host.t1), .register(Host.t1))
      if size == 8 {
        emitter.move(Host.t2, Host.t1)
        emitter.legacy(w: true, 0xc1, reg: 7, .register(Host.t2))  // sar
        emitter.byte(47)
        emitter.legacy(w: true, 0x83, reg: 0, .register(Host.t2))  // add
        emitter.byte(1)
        emitter.legacy(w: true, 0x83, reg: 7, .register(Host.t2))  // cmp
        emitter.byte(1)
        unusual.append(emitter.jump32(condition: 7))
      }
      emitter.store(Host.t1, base)
    }
    flags = .rax
    let rip = rip
    appendCold { [unowned(unsafe) self] in
      for jump in unusual { jump.patch(to: emitter.address) }
      flags = .rax
      emitLeave(site: addSite(callOut(instruction), rip: rip))
    }
  }

  private func emitStoreConstant(_ value: Int32, _ place: Place) {
    emitter.legacy(w: true, 0xc7, reg: 0, place)
    emitter.word32(value)
  }

  /// STI. If the chips have something, Swift does it; and if something comes now, the poll of the next block finds it, which
  /// is behind at least one more instruction.
  private func emitEnableInterrupts(_ instruction: Instruction) {
    requireSavedFlags()
    emitter.legacy(w: true, 0x83, reg: 7, .state(StateLayout.eventPending))  // cmp
    emitter.byte(0)
    let pending = emitter.jump32(condition: 5)
    let rip = rip
    appendCold { [unowned(unsafe) self] in
      pending.patch(to: emitter.address)
      flags = .rax
      emitLeave(site: addSite(callOut(instruction), rip: rip))
    }
    emitStoreConstant(0x200, .state(StateLayout.interruptFlag))
    flags = .rax
    isInShadow = true
  }

  /// PUSHFQ: the arithmetic flags as LAHF and SETO left them, and the rest; RF and VM are pushed as 0.
  private func emitPushFlags() {
    emitPush(size: 8) { [unowned(unsafe) self] place in
      requireSavedFlags()
      emitter.lea(Host.t1, place)
      emitter.store(Host.rax, .state(StateLayout.scratch))
      emitter.legacy(map: 1, 0xb6, reg: Host.t2, .register(Host.rax), needsREX: true)  // movzbl %al
      emitter.legacy(0xc1, reg: 4, .register(Host.t2))  // shl
      emitter.byte(11)
      emitter.byte(0x0f)  // movzbl %ah, %eax
      emitter.byte(0xb6)
      emitter.byte(0xc4)
      emitter.legacy(0x09, reg: Host.rax, .register(Host.t2))  // or
      emitter.legacy(0x0b, reg: Host.t2, .state(StateLayout.systemFlags))
      emitter.legacy(0x0b, reg: Host.t2, .state(StateLayout.interruptFlag))
      emitter.legacy(0x81, reg: 4, .register(Host.t2))  // and
      emitter.word32(~0x3_0000)
      faulting { emitter.legacy(w: true, 0x89, reg: Host.t2, .memory(base: Host.t1)) }
      emitter.load(Host.rax, .state(StateLayout.scratch))
      flags = .rax
    }
  }

  /// RDTSC, without touching flags.
  private func emitTimestamp() {
    requireHostFlags()
    emitter.byte(0x0f)
    emitter.byte(0x31)
    emitter.rotateRight(Host.rdx, Host.rdx, by: 32)
    emitter.load(Host.t1, .state(StateLayout.timestampOffset))
    emitter.lea(Host.rdx, .memory(base: Host.rdx, index: Host.rax))
    emitter.lea(Host.rdx, .memory(base: Host.rdx, index: Host.t1))
    emitter.legacy(0x89, reg: Host.rdx, .register(Host.guestRAX))
    emitter.rotateRight(Host.rdx, Host.rdx, by: 32)
    emitter.legacy(0x89, reg: Host.rdx, .register(Host.rdx))
    flags = .host
  }
}
