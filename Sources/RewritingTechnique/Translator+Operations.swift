// Innocuous instructions: the same opcode with its registers and its memory operand where they are now.

import InstructionSet

/// What a register field of an encoding holds.
enum RegisterSlot: Equatable {
  /// Part of the opcode, or the number of a vector, MMX or x87 register.
  case fixed(UInt8)
  case general(GeneralRegister, Access)
  /// AH, CH, DH, BH.
  case highByte(GeneralRegister, Access)

  var register: GeneralRegister? {
    switch self {
    case .fixed: nil
    case .general(let register, _), .highByte(let register, _): register
    }
  }

  func isSameRegister(_ other: RegisterSlot) -> Bool {
    switch (self, other) {
    case (.general(let a, _), .general(let b, _)), (.highByte(let a, _), .highByte(let b, _)): a == b
    default: false
    }
  }

  var isHighByte: Bool {
    if case .highByte = self { true } else { false }
  }

  var isWritten: Bool {
    switch self {
    case .fixed: false
    case .general(_, let access), .highByte(_, let access): access.mayWrite
    }
  }
}

/// An instruction as the encoders take it.
struct OperationShape {
  var opcode: UInt8
  var reg: RegisterSlot
  /// Of ModRM.rm, unless it is memory.
  var rm: RegisterSlot
  var vvvv: RegisterSlot
  var memory: MemoryOperand?
  /// The opcode alone says everything: CDQ, STC, VZEROUPPER.
  var lacksModRM = false
  /// A general register of one byte is among the operands.
  var hasByteRegister = false
  /// RAX is read or written without being named in a field.
  var usesRAX = false
  /// Its registers must be where the guest has them: see `Translator+Swapped`.
  var needsOwnRegisters = false
  /// General registers that it names or uses, those of the address apart.
  var registers: RegisterSet = []
}

extension OperationShape {
  var hasHighByte: Bool { reg.isHighByte || rm.isHighByte || vvvv.isHighByte }

  /// A high byte is written, and another operand is in the same register.
  var hasBothHalves: Bool {
    func clash(_ high: RegisterSlot, _ other: RegisterSlot) -> Bool {
      high.isHighByte && high.isWritten && !other.isHighByte && other.register == high.register
    }
    return clash(reg, rm) || clash(reg, vvvv) || clash(rm, reg) || clash(rm, vvvv)
  }
}

/// Which temporary stands for which operand, at most three of them.
private struct Temporaries {
  private var slots: (RegisterSlot, RegisterSlot, RegisterSlot) = (.fixed(0), .fixed(0), .fixed(0))
  private(set) var count = 0
  /// T1 holds the address.
  private let hasAddress: Bool

  init(hasAddress: Bool) { self.hasAddress = hasAddress }

  func host(at index: Int) -> UInt8 {
    switch hasAddress ? index + 1 : index {
    case 0: Host.t1
    case 1: Host.t2
    default: Host.rax
    }
  }

  func slot(at index: Int) -> RegisterSlot {
    switch index {
    case 0: slots.0
    case 1: slots.1
    default: slots.2
    }
  }

  var borrowRAX: Bool { count > 0 && host(at: count - 1) == Host.rax }

  private func position(_ slot: RegisterSlot) -> Int? {
    for index in 0..<count where self.slot(at: index).isSameRegister(slot) { return index }
    return nil
  }

  func host(_ slot: RegisterSlot) -> UInt8? { position(slot).map(host(at:)) }

  mutating func add(_ slot: RegisterSlot) {
    if let position = position(slot), !slot.isWritten || self.slot(at: position).isWritten { return }
    let place = position(slot) ?? count
    switch place {
    case 0: slots.0 = slot
    case 1: slots.1 = slot
    default: slots.2 = slot
    }
    count = max(count, place + 1)
  }
}

extension Instruction {
  /// A pending x87 exception is raised by it: x87 instructions that have no form that doesn't wait, and whatever has an
  /// MMX register.
  var waitsForX87: Bool {
    guard encoding == .legacy else { return false }
    switch feature {
    // FNSTCW and FNSTSW are those that don't, of those that come here.
    case .x87: return !((opcode == 0xd9 && reg == 7) || (opcode == 0xdd && reg == 7))
    case .mmx, .mmxext, .sse, .sse2, .ssse3: break
    default: return false
    }
    for index in 0..<operandCount {
      if case .mmx? = operand(at: index)?.kind { return true }
    }
    return false
  }

  /// Prefetches and long NOPs.
  var isHint: Bool {
    encoding == .legacy && opcodeMap == OpcodeMap.escape0F && (0x18...0x1f ~= opcode || opcode == 0x0d)
  }

  /// VMASKMOV and VPMASKMOV with memory: what the mask leaves out must not fault.
  var isMaskedMove: Bool {
    guard encoding == .vex, opcodeMap == OpcodeMap.escape0F38, hasModRMMemory else { return false }
    return 0x2c...0x2f ~= opcode || opcode == 0x8c || opcode == 0x8e
  }
}

extension Translator {
  /// - Returns: what stands in the way, or `nil`.
  func translateInnocuous(_ instruction: Instruction) -> String? {
    if instruction.isHint { return nil }
    if instruction.encoding == .legacy {
      switch (instruction.opcodeMap, instruction.opcode) {
      case (Instruction.OpcodeMap.oneByte, 0x90) where instruction.rex & 1 == 0:
        if instruction.prefixes.contains(.rep) {
          emitter.byte(0xf3)
          emitter.byte(0x90)
        }
        return nil
      case (Instruction.OpcodeMap.oneByte, 0x8d):
        return translateLEA(instruction)
      case (Instruction.OpcodeMap.oneByte, 0xb8...0xbf) where instruction.immediateSize == 8:
        guard case .general(let register)? = instruction.operand(at: 0)?.kind else { return "operand" }
        let destination = home(register) ?? Host.t1
        emitter.loadConstant(destination, UInt64(bitPattern: instruction.immediate))
        if home(register) == nil { emitter.store(destination, .state(StateLayout.general(register.rawValue))) }
        return nil
      case (Instruction.OpcodeMap.oneByte, 0x9b):
        faulting { emitter.byte(0x9b) }
        return nil
      default: break
      }
    }
    if instruction.addressesBitString, case .general(let register)? = instruction.operand(at: 1)?.kind {
      return translateBitString(instruction, offset: register)
    }
    effects = decoded[position].effects
    let rexR = instruction.rex << 1 & 8
    let rexB = instruction.rex << 3 & 8
    var described = OperationShape(
      opcode: instruction.opcode, reg: .fixed(instruction.reg | rexR), rm: .fixed(instruction.rm | rexB),
      vvvv: .fixed(is64 ? instruction.vvvv : instruction.vvvv & 7), lacksModRM: !instruction.hasModRM)
    if let failure = describe(instruction, &described) { return failure }
    let shape = described
    guard let memory = shape.memory else {
      emitOperation(instruction, shape, nil)
      return nil
    }
    if let share = shareOfAnother {
      emitSharing(share, .operation(instruction, shape, effects))
      return nil
    }
    giveUpHostFlags()
    if let failure = emitAddress(memory, displacement: shareBelow) { return failure }
    emitAccess(
      size: Int(memory.size), reads: memory.access.mayRead, writes: memory.access.mayWrite,
      mustBeAligned: memory.mustBeAligned, isStack: memory.segment == .ss, waitsForX87: instruction.waitsForX87,
      .operation(instruction, shape, effects))
    return nil
  }

  /// - Returns: what stands in the way, or `nil`.
  private func describe(_ instruction: Instruction, _ shape: inout OperationShape) -> String? {
    var named: RegisterSet = []
    var opcodeSlot: RegisterSlot?
    var fixedRAX: RegisterSlot?
    for index in 0..<instruction.operandCount {
      guard let operand = instruction.operand(at: index) else { continue }
      let slot: RegisterSlot
      switch operand.kind {
      case .general(let register): slot = .general(register, operand.access)
      case .highByte(let register): slot = .highByte(register, operand.access)
      case .memory(let memory):
        if operand.place != .modRMRm { return "implicit memory" }
        shape.memory = memory
        continue
      case .vector, .mmx, .x87, .immediate: continue
      default: return "operand"
      }
      if let register = slot.register { named.insert(RegisterSet(number: register.rawValue)) }
      if operand.size == 1 { shape.hasByteRegister = true }
      switch operand.place {
      case .modRMReg: shape.reg = slot
      case .modRMRm: shape.rm = slot
      case .vvvv: shape.vvvv = slot
      case .opcode: opcodeSlot = slot
      case .none:
        // A shift's CL is where it was; RAX is not.
        guard let register = slot.register, case .general = slot else {
          shape.needsOwnRegisters = true
          continue
        }
        if home(register) == nil { shape.needsOwnRegisters = true }
        if register == .rax { fixedRAX = slot }
      case .immediate: return "register in an immediate"
      }
    }
    var implicit = effects.general.read.union(effects.general.written).subtracting(named)
    if let memory = shape.memory {
      if let base = memory.base { implicit.remove(RegisterSet(number: base.rawValue)) }
      if let index = memory.index { implicit.remove(RegisterSet(number: index.rawValue)) }
      guard memory.source == .modRM else { return "implicit memory" }
    }
    if instruction.opcodeMap == Instruction.OpcodeMap.oneByte, instruction.encoding == .legacy {
      // Short forms without ModRM become the long ones.
      switch instruction.opcode {
      case 0x00...0x3f where instruction.opcode & 7 >= 4:
        shape.rm = fixedRAX ?? .general(.rax, [.read, .write])
        shape.reg = .fixed(instruction.opcode >> 3 & 7)
        shape.lacksModRM = false
        shape.opcode = 0x80 | instruction.opcode & 1
        fixedRAX = nil
      case 0xa8, 0xa9:
        shape.rm = fixedRAX ?? .general(.rax, .read)
        shape.reg = .fixed(0)
        shape.opcode = instruction.opcode == 0xa8 ? 0xf6 : 0xf7
        shape.lacksModRM = false
        fixedRAX = nil
      case 0x40...0x4f:
        guard let slot = opcodeSlot else { return "operand" }
        shape.rm = slot
        shape.reg = .fixed(instruction.opcode >> 3 & 1)
        shape.opcode = 0xff
        shape.lacksModRM = false
      case 0x90...0x97:
        guard let slot = opcodeSlot else { return "operand" }
        shape.rm = slot
        shape.reg = .general(.rax, [.read, .write])
        shape.opcode = 0x87
        shape.lacksModRM = false
        fixedRAX = nil
      case 0xb0...0xbf:
        guard let slot = opcodeSlot else { return "operand" }
        shape.rm = slot
        shape.reg = .fixed(0)
        shape.opcode = instruction.opcode < 0xb8 ? 0xc6 : 0xc7
        shape.lacksModRM = false
      case 0x80...0x83:
        // 82 is 80 outside 64-bit mode.
        if instruction.opcode == 0x82 { shape.opcode = 0x80 }
      case 0xf6, 0xf7: shape.usesRAX = instruction.reg >= 4
      case 0x98, 0x99, 0x9e, 0x9f: shape.usesRAX = true
      default: break
      }
    } else if instruction.encoding == .legacy, instruction.opcodeMap == Instruction.OpcodeMap.escape0F {
      switch instruction.opcode {
      case 0xb0, 0xb1, 0xc7:
        shape.usesRAX = instruction.opcode != 0xc7 || instruction.reg == 1
        if shape.usesRAX, shape.rm.register == .rax { shape.needsOwnRegisters = true }
      case 0xc8...0xcf:
        // BSWAP's register is in the opcode: `emitOperation` puts it back.
        guard let slot = opcodeSlot else { return "operand" }
        shape.rm = slot
        shape.lacksModRM = false
      default: break
      }
    }
    if shape.lacksModRM, opcodeSlot != nil { return "register in the opcode" }
    if fixedRAX != nil { shape.usesRAX = true }
    if implicit.contains(GeneralRegister.rax) { shape.usesRAX = true }
    // PCMPESTRI and PCMPESTRM: RAX may be part of the address, too.
    if instruction.opcodeMap == Instruction.OpcodeMap.escape0F3A, 0x60...0x61 ~= instruction.opcode {
      shape.usesRAX = true
    }
    if implicit.contains(GeneralRegister.r10) || implicit.contains(GeneralRegister.r11)
      || implicit.contains(GeneralRegister.r15)
    {
      shape.needsOwnRegisters = true
    }
    shape.registers = named.union(implicit)
    if shape.usesRAX, shape.reg.register == .rax || shape.rm.register == .rax || shape.vvvv.register == .rax {
      shape.needsOwnRegisters = true
    }
    if shape.hasBothHalves { shape.needsOwnRegisters = true }
    if let memory = shape.memory {
      guard (1...64).contains(memory.size) || memory.size == 94 || memory.size == 108 else {
        return "access of \(memory.size) bytes"
      }
    }
    return nil
  }

  private func isHomeless(_ slot: RegisterSlot) -> Bool {
    switch slot {
    case .fixed: false
    case .general(let register, _): home(register) == nil
    case .highByte: true
    }
  }

  /// Writes the operation itself; on memory, `place` is (T2,T1), or something off T1 alone. `effects` are the instruction's.
  func emitOperation(_ instruction: Instruction, _ shape: OperationShape, _ place: Place?) {
    if shape.needsOwnRegisters {
      emitWithOwnRegisters(instruction, shape, place)
      return
    }
    // Registers without a home of their own, and high bytes, go through temporaries.
    var temporaries = Temporaries(hasAddress: place != nil)
    if isHomeless(shape.reg) { temporaries.add(shape.reg) }
    if place == nil, isHomeless(shape.rm) { temporaries.add(shape.rm) }
    if isHomeless(shape.vvvv) { temporaries.add(shape.vvvv) }
    func host(_ slot: RegisterSlot) -> UInt8 {
      if case .fixed(let number) = slot { return number }
      return temporaries.host(slot) ?? slot.register.flatMap(home) ?? 0
    }
    let use = effects.flags
    if needsHostFlags(instruction) || (flags != .recipe && (shape.usesRAX || temporaries.borrowRAX)) {
      requireHostFlags()
    }
    var memory = place
    if let place, place.isIndexed, temporaries.count > 0 {
      emitter.lea(Host.t1, place)
      memory = .memory(base: Host.t1)
    }
    for index in 0..<temporaries.count {
      let temporary = temporaries.host(at: index)
      switch temporaries.slot(at: index) {
      case .general(let register, _):
        emitter.load(temporary, .state(StateLayout.general(register.rawValue)))
      case .highByte(let register, _):
        emitter.rotateRight(temporary, home(register) ?? Host.guestRAX, by: 8)
      case .fixed: break
      }
    }
    if shape.usesRAX { emitter.move(Host.rax, Host.guestRAX) }
    faulting {
      encode(
        instruction, shape, reg: host(shape.reg), vvvv: host(shape.vvvv), memory ?? .register(host(shape.rm)))
    }
    if shape.usesRAX { emitter.move(Host.guestRAX, Host.rax) }
    for index in 0..<temporaries.count where temporaries.slot(at: index).isWritten {
      let temporary = temporaries.host(at: index)
      switch temporaries.slot(at: index) {
      case .general(let register, _):
        emitter.store(temporary, .state(StateLayout.general(register.rawValue)))
      case .highByte(let register, _):
        emitter.rotateRight(home(register) ?? Host.guestRAX, temporary, by: 56)
      case .fixed: break
      }
    }
    if !use.changed.isDisjoint(with: .arithmetic) { flags = .host }
  }

  func encode(
    _ instruction: Instruction, _ shape: OperationShape, reg: UInt8, vvvv: UInt8, _ rm: Place
  ) {
    let place = shape.lacksModRM ? nil : rm
    let reg = shape.lacksModRM ? 0 : reg
    if instruction.encoding == .vex {
      emitter.vex(
        pp: instruction.simdPrefix, map: instruction.opcodeMap, w: instruction.rexW, length: instruction.vectorLength,
        vvvv: vvvv, shape.opcode, reg: reg, place)
    } else {
      var prefixes: PrefixBits = []
      if needsOperandSizePrefix(instruction) { prefixes.insert(.operandSize) }
      if instruction.prefixes.contains(.lock) { prefixes.insert(.lock) }
      if instruction.opcodeMap != Instruction.OpcodeMap.oneByte {
        if instruction.prefixes.contains(.rep), announced.contains(instruction.feature) { prefixes.insert(.repeatZero) }
        if instruction.prefixes.contains(.repne) { prefixes.insert(.repeatNotZero) }
      }
      if instruction.opcodeMap == Instruction.OpcodeMap.escape0F, 0xc8...0xcf ~= instruction.opcode,
        case .register(let number) = rm
      {
        let rex: UInt8 = (instruction.rexW ? 8 : 0) | number >> 3
        if prefixes.contains(.operandSize) { emitter.byte(0x66) }
        if rex != 0 { emitter.byte(0x40 | rex) }
        emitter.byte(0x0f)
        emitter.byte(0xc8 | number & 7)
        return
      }
      emitter.legacy(
        prefixes, w: instruction.rexW && is64, map: instruction.opcodeMap, shape.opcode, reg: reg, place,
        needsREX: shape.hasByteRegister && !(shape.needsOwnRegisters && shape.hasHighByte))
    }
    // Outside 64-bit mode a vector register in an immediate has three bits.
    let isNarrowed = !is64 && instruction.encoding == .vex && instruction.hasVectorInImmediate
    emitter.immediate(
      isNarrowed ? instruction.immediate & 0x7f : instruction.immediate, size: instruction.immediateSize)
    if instruction.secondImmediateSize != 0 {
      emitter.immediate(Int64(instruction.secondImmediate), size: instruction.secondImmediateSize)
    }
  }

  /// The host runs 64-bit code, where 16-bit operands need the prefix that 16-bit code goes without.
  private func needsOperandSizePrefix(_ instruction: Instruction) -> Bool {
    let hasPrefix = instruction.prefixes.contains(.operandSize)
    guard mode.bits == .bits16 else { return hasPrefix }
    let decidesSize = instruction.operandSizeMatters || instruction.opcodeMap == Instruction.OpcodeMap.oneByte
    return decidesSize ? instruction.operandSize == 2 : hasPrefix
  }

  private func translateLEA(_ instruction: Instruction) -> String? {
    guard let memory = instruction.memoryOperand, case .general(let register)? = instruction.operand(at: 0)?.kind
    else { return "operand" }
    if let failure = emitOffset(memory) { return failure }
    if let destination = home(register) {
      emitter.legacy(
        instruction.operandSize == 2 ? .operandSize : [], w: instruction.operandSize == 8, 0x89, reg: Host.t1,
        .register(destination))
    } else {
      let place = Place.state(StateLayout.general(register.rawValue))
      // A 32-bit result clears the upper half.
      if instruction.operandSize == 4 {
        emitter.legacy(0x89, reg: Host.t1, .register(Host.t1))
      }
      emitter.legacy(
        instruction.operandSize == 2 ? .operandSize : [], w: instruction.operandSize != 2, 0x89, reg: Host.t1, place)
    }
    return nil
  }

  /// BT, BTS, BTR, BTC with a bit offset in a register, which reaches beyond the operand: the address is moved by whole
  /// operands and the rest of the offset stays.
  private func translateBitString(_ instruction: Instruction, offset register: GeneralRegister) -> String? {
    guard let memory = instruction.memoryOperand else { return "operand" }
    let size = instruction.operandSize
    requireSavedFlags()
    if let failure = emitOffset(memory) { return failure }
    let source = fetch(register, into: Host.t2)
    switch size {
    case 2: emitter.legacy(w: true, map: 1, 0xbf, reg: Host.t2, .register(source))  // movswq
    case 4: emitter.legacy(w: true, 0x63, reg: Host.t2, .register(source))  // movslq
    default: if source != Host.t2 { emitter.move(Host.t2, source) }
    }
    let shift: UInt8 = size == 2 ? 4 : size == 4 ? 5 : 6
    emitter.legacy(w: true, 0xc1, reg: 7, .register(Host.t2))  // sar
    emitter.byte(shift)
    emitter.lea(
      Host.t1, .memory(base: Host.t1, index: Host.t2, scale: shift - 3), w: memory.addressSize == 8)
    if memory.addressSize == 2 {
      emitter.legacy(map: 1, 0xb7, reg: Host.t1, .register(Host.t1))  // movzwl
    }
    let writes = instruction.opcode != 0xa3
    emitSegment(memory.segment, size: Int(size), isWrite: writes)
    emitAccess(size: Int(size), reads: true, writes: writes, isStack: memory.segment == .ss) {
      [unowned(unsafe) self] place in
      emitter.lea(Host.t1, place)
      let source = fetch(register, into: Host.t2)
      if source != Host.t2 { emitter.move(Host.t2, source) }
      emitter.legacy(0x83, reg: 4, .register(Host.t2))  // and
      emitter.byte(UInt8(size) * 8 - 1)
      requireHostFlags()
      var prefixes: PrefixBits = size == 2 ? .operandSize : []
      if instruction.prefixes.contains(.lock) { prefixes.insert(.lock) }
      faulting {
        emitter.legacy(
          prefixes, w: size == 8, map: 1, instruction.opcode, reg: Host.t2, .memory(base: Host.t1))
      }
      flags = .host
    }
    return nil
  }
}

extension Instruction {
  /// VBLENDVPS and its like.
  fileprivate var hasVectorInImmediate: Bool {
    for index in 0..<operandCount {
      if let operand = operand(at: index), case .vector = operand.kind, operand.place == .immediate { return true }
    }
    return false
  }
}
