// The stack, and moves with an absolute offset: memory that no ModRM names.

import TrivisorInstructionSet

enum StackCode {
  /// - Returns: whether the instruction was written; if not, a call-out carries it out.
  /// - Throws: `Refusal`, naming what stands in the way.
  static func emit(_ instruction: Instruction, _ block: inout BlockEmitter) throws(Refusal) -> Bool {
    let size = Int(instruction.operandSize)
    switch instruction.operation {
    case .push: try push(instruction, size: size, &block)
    case .pop: return try pop(instruction, size: size, &block)
    case .leave:
      address(base: Host.rbp, size: size, isWrite: false, &block)
      AccessCode.emit(AccessKind(size: size, reads: true, writes: false, isStack: true), .leave(size: size), &block)
    case .mov:
      guard let memory = instruction.effects.memory.0 else { throw Refusal(reason: "operand") }
      let writes = memory.access.mayWrite
      let width = memory.size
      block.requireSavedFlags()
      try AccessCode.address(memory, size: Int(width), &block)
      AccessCode.emit(
        AccessKind(size: Int(width), reads: !writes, writes: writes),
        .moveAccumulator(writes: writes, size: Int(width)), &block)
    case .movs, .stos: return HelperCode.string(instruction, &block)
    // Gathers, byte masks, XLAT, the rest of the string instructions, ENTER, PUSHA and POPA.
    default: return false
    }
    return true
  }

  // MARK: Addresses

  /// Leaves the linear address of a place on the stack in T1; the host's flags have been given up. The offset has the
  /// stack's width.
  private static func address(
    base: UInt8 = Host.rsp, displacement: Int32 = 0, size: Int, isWrite: Bool, _ block: inout BlockEmitter
  ) {
    block.giveUpHostFlags()
    let low = Int32(truncatingIfNeeded: AccessCode.shareBelow(block))
    block.code.lea(
      Host.t1, .memory(base: base, displacement: displacement &+ low), w: block.mode.stackSize == 8)
    if block.mode.stackSize == 2 { block.code.loadZeroExtended(Host.t1, .register(Host.t1), size: 2) }
    AccessCode.segment(.ss, size: size, isWrite: isWrite, &block)
  }

  /// Sets as much of RSP as the stack's width says.
  static func moveStackPointer(base: UInt8 = Host.rsp, by displacement: Int32, _ block: inout BlockEmitter) {
    block.code.lea(
      Host.rsp, .memory(base: base, displacement: displacement), size: Int(block.mode.stackSize))
  }

  /// An access at a distance from RSP.
  static func access(
    displacement: Int32 = 0, size: Int, isWrite: Bool, _ body: AccessBody, _ block: inout BlockEmitter
  ) {
    if let share = AccessCode.shareOfAnother(block) {
      AccessCode.emitSharing(share, body, &block)
      return
    }
    address(displacement: displacement, size: size, isWrite: isWrite, &block)
    AccessCode.emit(AccessKind(size: size, reads: !isWrite, writes: isWrite, isStack: true), body, &block)
  }

  /// Checks the place below RSP, stores there, then moves RSP: `body` is one of the pushes.
  static func push(size: Int, _ body: AccessBody, _ block: inout BlockEmitter) {
    access(displacement: -Int32(size), size: size, isWrite: true, body, &block)
  }

  // MARK: PUSH

  private static func push(_ instruction: Instruction, size: Int, _ block: inout BlockEmitter) throws(Refusal) {
    if instruction.immediateSize != 0 {
      push(size: size, .pushImmediate(instruction.immediate, size: size), &block)
    } else if let memory = instruction.memoryOperand {
      // Memory is read first, and nothing has happened yet when the stack faults.
      try loadToScratch(memory, size: size, &block)
      push(size: size, .pushScratch(size: size), &block)
    } else {
      guard case .general(let register)? = instruction.operand(at: 0)?.kind else { throw Refusal(reason: "operand") }
      push(size: size, .pushRegister(register, size: size), &block)
    }
  }

  static func push(_ register: GeneralRegister, size: Int, on place: Place, _ block: inout BlockEmitter) {
    var place = place
    if Host.home(register) == nil {
      block.code.lea(Host.t1, place)
      place = .memory(base: Host.t1)
    }
    let source = block.fetch(register, into: Host.t2)
    block.faulting { $0.code.store(source, place, size: size) }
    moveStackPointer(by: -Int32(size), &block)
  }

  static func push(_ value: Int64, size: Int, on place: Place, _ block: inout BlockEmitter) {
    block.faulting { $0.code.storeConstant(value, place, size: size) }
    moveStackPointer(by: -Int32(size), &block)
  }

  static func pushScratch(size: Int, on place: Place, _ block: inout BlockEmitter) {
    storeScratch(size: size, on: place, &block)
    moveStackPointer(by: -Int32(size), &block)
  }

  private static func storeScratch(size: Int, on place: Place, _ block: inout BlockEmitter) {
    block.code.lea(Host.t1, place)
    block.code.load(Host.t2, .state(StateLayout.scratch))
    block.faulting { $0.code.store(Host.t2, .memory(base: Host.t1), size: size) }
  }

  /// Loads `size` bytes, zero-extended, into the state block's scratch.
  static func loadToScratch(_ memory: MemoryOperand, size: Int, _ block: inout BlockEmitter) throws(Refusal) {
    block.requireSavedFlags()
    try AccessCode.address(memory, size: size, &block)
    AccessCode.emit(
      AccessKind(size: size, reads: true, writes: false, isStack: memory.segment == .ss), .loadScratch(size: size),
      &block)
  }

  // MARK: POP

  private static func pop(_ instruction: Instruction, size: Int, _ block: inout BlockEmitter) throws(Refusal) -> Bool {
    guard let memory = instruction.memoryOperand else {
      guard case .general(let register)? = instruction.operand(at: 0)?.kind else { throw Refusal(reason: "operand") }
      access(size: size, isWrite: false, .pop(register, size: size), &block)
      return true
    }
    // An address that contains RSP is computed with RSP as it is afterwards.
    let isByStackPointer = memory.base == .rsp
    // There SP moves without a carry into ESP.
    if isByStackPointer, block.mode.stackSize == 2 { return false }
    address(size: size, isWrite: false, &block)
    AccessCode.emit(AccessKind(size: size, reads: true, writes: false, isStack: true), .loadScratch(size: size), &block)
    try AccessCode.address(memory, size: size, displacement: isByStackPointer ? Int64(size) : 0, &block)
    AccessCode.emit(
      AccessKind(size: size, reads: false, writes: true, isStack: memory.segment == .ss), .popScratch(size: size),
      &block)
    return true
  }

  static func pop(_ register: GeneralRegister, size: Int, on place: Place, _ block: inout BlockEmitter) {
    if register == .rsp {
      // What is popped replaces as much of the moved pointer as it has bytes.
      block.faulting { $0.code.load(Host.t2, place, size: size) }
      moveStackPointer(by: Int32(size), &block)
      block.code.store(Host.t2, .register(Host.rsp), size: size)
      return
    }
    let destination = Host.home(register) ?? Host.t2
    block.faulting { $0.code.load(destination, place, size: size) }
    if Host.home(register) == nil {
      block.code.store(destination, .state(StateLayout.general(register.rawValue)), size: size)
    }
    moveStackPointer(by: Int32(size), &block)
  }

  static func popScratch(size: Int, on place: Place, _ block: inout BlockEmitter) {
    storeScratch(size: size, on: place, &block)
    moveStackPointer(by: Int32(size), &block)
  }

  static func leave(size: Int, on place: Place, _ block: inout BlockEmitter) {
    block.faulting { $0.code.load(Host.t2, place, size: size) }
    moveStackPointer(base: Host.rbp, by: Int32(size), &block)
    block.code.store(Host.t2, .register(Host.rbp), size: size)
  }
}
