// Innocuous instructions: the same opcode with its registers and its memory operand where they are now.

import TrivisorInstructionSet

/// An innocuous instruction of the plan, ready to be written, perhaps twice.
struct PlannedOperation {
  /// In the plan.
  let index: Int
  /// Of the instruction there.
  let template: UnsafePointer<InstructionTemplate>
}

enum OperationCode {
  /// - Throws: `Refusal`, naming what stands in the way.
  static func emit(_ instruction: Instruction, _ block: inout BlockEmitter) throws(Refusal) {
    if instruction.isHint { return }
    if instruction.encoding == .legacy {
      switch instruction.operation {
      case .nop: return
      case .pause: return pause(&block)
      case .lea: return try loadAddress(instruction, &block)
      case .mov where instruction.immediateSize == 8: return try loadConstant(instruction, &block)
      case .fwait: return block.faulting { $0.code.fwait() }
      default: break
      }
    }
    if instruction.addressesBitString, case .general(let register)? = instruction.operand(at: 1)?.kind {
      return try bitString(instruction, offset: register, &block)
    }
    if instruction.operation == .ldmxcsr { return try loadControl(instruction, &block) }
    let template = block.plan.instructions[block.position].template
    let operation = PlannedOperation(index: block.position, template: template)
    guard template.pointee.shape != nil else {
      // Again, for its reason.
      _ = try OperationShape(instruction, template.pointee.effects, is64: block.is64)
      throw Refusal(reason: "class")
    }
    guard var memory = template.pointee.shape?.memory else {
      emit(operation, on: nil, &block)
      return
    }
    if let share = AccessCode.shareOfAnother(block) {
      AccessCode.emitSharing(share, .operation(operation), &block)
      return
    }
    memory.displacement = instruction.displacement
    block.giveUpHostFlags()
    try AccessCode.address(memory, displacement: AccessCode.shareBelow(block), &block)
    AccessCode.emit(
      AccessKind(
        size: Int(memory.size), reads: memory.access.mayRead, writes: memory.access.mayWrite,
        mustBeAligned: memory.mustBeAligned, isStack: memory.segment == .ss, waitsForX87: instruction.waitsForX87),
      .operation(operation), &block)
  }

  /// Where there are other processors to wait for, they are counted (`SpinBrake`).
  private static func pause(_ block: inout BlockEmitter) {
    guard block.isShared, !block.mode.isSingleStepping else {
      block.code.pause()
      return
    }
    block.requireSavedFlags()
    block.code.pause()
    block.code.arithmetic(.sub, .state(StateLayout.pausesLeft), short: 1, w: true)
    let spent = block.code.jump32(condition: Emitter.Condition.equal)
    block.flags = .rax
    block.postpone(.spun(spent, next: block.nextRIP))
  }

  private static func isHomeless(_ slot: RegisterSlot) -> Bool {
    switch slot {
    case .fixed: false
    case .general(let register, _): Host.home(register) == nil
    case .highByte: true
    }
  }

  /// Writes the operation itself; on memory, `place` is (T2,T1), or something off T1 alone.
  static func emit(_ operation: PlannedOperation, on place: Place?, _ block: inout BlockEmitter) {
    guard let shape = operation.template.pointee.shape else { return }
    if shape.isAtHome {
      emitAtHome(operation, shape, on: place, &block)
      return
    }
    let instruction = block.plan.instructions[operation.index].instruction
    if shape.needsOwnRegisters {
      OwnRegistersCode.emit(instruction, shape, place, &block)
      return
    }
    var temporaries = Temporaries(hasAddress: place != nil)
    if isHomeless(shape.reg) { temporaries.add(shape.reg) }
    if place == nil, isHomeless(shape.rm) { temporaries.add(shape.rm) }
    if isHomeless(shape.vvvv) { temporaries.add(shape.vvvv) }
    func host(_ slot: RegisterSlot) -> UInt8 {
      if case .fixed(let number) = slot { return number }
      return temporaries.host(slot) ?? slot.register.flatMap(Host.home) ?? 0
    }
    let use = operation.template.pointee.effects.flags
    if block.needsHostFlags(use, at: operation.index)
      || (block.flags != .recipe && (shape.usesRAX || temporaries.borrowRAX))
    {
      block.requireHostFlags()
    }
    var memory = place
    if let place, place.isIndexed, temporaries.count > 0 {
      block.code.lea(Host.t1, place)
      memory = .memory(base: Host.t1)
    }
    for index in 0..<temporaries.count {
      let temporary = temporaries.host(at: index)
      switch temporaries.slot(at: index) {
      case .general(let register, _):
        block.code.load(temporary, .state(StateLayout.general(register.rawValue)))
      case .highByte(let register, _):
        block.code.rotateRight(temporary, Host.home(register) ?? Host.guestRAX, by: 8)
      case .fixed: break
      }
    }
    if shape.usesRAX { block.code.move(Host.rax, Host.guestRAX) }
    let (reg, vvvv, rm) = (host(shape.reg), host(shape.vvvv), memory ?? .register(host(shape.rm)))
    block.faulting { $0.encode(instruction, shape, reg: reg, vvvv: vvvv, rm) }
    if shape.usesRAX { block.code.move(Host.guestRAX, Host.rax) }
    for index in 0..<temporaries.count where temporaries.slot(at: index).isWritten {
      let temporary = temporaries.host(at: index)
      switch temporaries.slot(at: index) {
      case .general(let register, _):
        block.code.store(temporary, .state(StateLayout.general(register.rawValue)))
      case .highByte(let register, _):
        block.code.rotateRight(Host.home(register) ?? Host.guestRAX, temporary, by: 56)
      case .fixed: break
      }
    }
    if !use.changed.isDisjoint(with: .arithmetic) { block.flags = .host }
    X87Code.note(instruction, index: operation.index, &block)
  }

  /// The usual case: no register has to be brought.
  private static func emitAtHome(
    _ operation: PlannedOperation, _ shape: OperationShape, on place: Place?, _ block: inout BlockEmitter
  ) {
    let use = operation.template.pointee.effects.flags
    if block.needsHostFlags(use, at: operation.index) { block.requireHostFlags() }
    let start = block.code.address
    block.encode(operation, shape, on: place)
    block.noteFault(from: start)
    if !use.changed.isDisjoint(with: .arithmetic) { block.flags = .host }
    if block.plan.instructions[operation.index].instruction.feature == .x87 {
      X87Code.note(block.plan.instructions[operation.index].instruction, index: operation.index, &block)
    }
  }

  /// LDMXCSR. Which bits are reserved is the model's affair: AMD's processors with MISALIGNSSE, which is not announced, have one
  /// more than Intel's.
  private static func loadControl(_ instruction: Instruction, _ block: inout BlockEmitter) throws(Refusal) {
    guard let memory = instruction.memoryOperand else { throw Refusal(reason: "operand") }
    block.requireSavedFlags()
    if let share = AccessCode.shareOfAnother(block) {
      AccessCode.emitSharing(share, .loadControl, &block)
      return
    }
    try AccessCode.address(memory, displacement: AccessCode.shareBelow(block), &block)
    AccessCode.emit(
      AccessKind(size: Int(memory.size), reads: true, writes: false, isStack: memory.segment == .ss), .loadControl,
      &block)
  }

  /// The flags have been given up.
  static func loadControl(from place: Place, _ block: inout BlockEmitter) {
    block.faulting { $0.code.load(Host.t2, place, w: false) }
    block.code.test(.register(Host.t2), immediate: Int32(bitPattern: ~ExtendedArea.definedControlBits))
    block.flags = .rax
    block.postpone(.raise(block.code.jump32(condition: Emitter.Condition.notEqual), .general, rip: block.rip))
    block.code.store(Host.t2, .state(StateLayout.scratch))
    block.code.loadControl(.state(StateLayout.scratch))
  }

  /// MOV of a constant of 64 bits.
  private static func loadConstant(_ instruction: Instruction, _ block: inout BlockEmitter) throws(Refusal) {
    guard case .general(let register)? = instruction.operand(at: 0)?.kind else { throw Refusal(reason: "operand") }
    let destination = Host.home(register) ?? Host.t1
    block.code.loadConstant(destination, UInt64(bitPattern: instruction.immediate))
    if Host.home(register) == nil {
      block.code.store(destination, .state(StateLayout.general(register.rawValue)))
    }
  }

  private static func loadAddress(_ instruction: Instruction, _ block: inout BlockEmitter) throws(Refusal) {
    guard let memory = instruction.memoryOperand, case .general(let register)? = instruction.operand(at: 0)?.kind
    else { throw Refusal(reason: "operand") }
    try AccessCode.offset(memory, &block)
    let size = Int(instruction.operandSize)
    if let destination = Host.home(register) {
      block.code.store(Host.t1, .register(destination), size: size)
    } else {
      // A 32-bit result clears the upper half.
      if size == 4 { block.code.store(Host.t1, .register(Host.t1), size: 4) }
      block.code.store(Host.t1, .state(StateLayout.general(register.rawValue)), size: size == 2 ? 2 : 8)
    }
  }

  /// BT, BTS, BTR, BTC with a bit offset in a register, which reaches beyond the operand: the address is moved by whole
  /// operands and the rest of the offset stays.
  private static func bitString(
    _ instruction: Instruction, offset register: GeneralRegister, _ block: inout BlockEmitter
  ) throws(Refusal) {
    guard let memory = instruction.memoryOperand else { throw Refusal(reason: "operand") }
    let size = Int(instruction.operandSize)
    block.requireSavedFlags()
    try AccessCode.offset(memory, &block)
    let source = block.fetch(register, into: Host.t2)
    block.code.signExtend(Host.t2, source, size: size)
    let shift: UInt8 = size == 2 ? 4 : size == 4 ? 5 : 6
    block.code.shift(.sar, Host.t2, by: shift, w: true)
    block.code.lea(
      Host.t1, .memory(base: Host.t1, index: Host.t2, scale: shift - 3), w: memory.addressSize == 8)
    if memory.addressSize == 2 { block.code.loadZeroExtended(Host.t1, .register(Host.t1), size: 2) }
    let writes = instruction.operation != .bt
    AccessCode.segment(memory.segment, size: size, isWrite: writes, &block)
    AccessCode.emit(
      AccessKind(size: size, reads: true, writes: writes, isStack: memory.segment == .ss),
      .bitString(index: block.position, register: register), &block)
  }

  /// The bit operation itself.
  static func bitString(
    _ instruction: Instruction, offset register: GeneralRegister, on place: Place, _ block: inout BlockEmitter
  ) {
    let size = Int(instruction.operandSize)
    block.code.lea(Host.t1, place)
    let source = block.fetch(register, into: Host.t2)
    if source != Host.t2 { block.code.move(Host.t2, source) }
    block.code.arithmetic(.and, .register(Host.t2), short: Int8(size) * 8 - 1)
    block.requireHostFlags()
    var prefixes: PrefixBits = size == 2 ? .operandSize : []
    if instruction.prefixes.contains(.lock) { prefixes.insert(.lock) }
    block.faulting {
      $0.code.legacy(prefixes, w: size == 8, map: 1, instruction.opcode, reg: Host.t2, .memory(base: Host.t1))
    }
    block.flags = .host
  }
}
