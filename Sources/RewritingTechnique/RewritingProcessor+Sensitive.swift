// What translated code leaves to Swift: instructions that are privileged, or that would silently give the host's answer.
//
// Each either completes, with RIP behind it or where it leads, or throws and has changed nothing.

import CWorldSwitch
import InstructionSet
import VMM

extension RewritingProcessor {
  private func refused(_ instruction: Instruction) -> Interruption {
    .unsupported("instruction \(instruction.mnemonic)")
  }

  /// Carries out the instruction at RIP.
  func emulate(_ instruction: Instruction) throws(Interruption) {
    counters.count(.exitOther)
    ledger.count(instruction)
    if let trace = partition.trace, trace.subject == .sensitive {
      trace.note("\(hexadecimal(linearRIP)) \(instruction.mnemonic)")
    }
    let next = nextRIP(instruction)
    if try emulateMasked(instruction, next) { return }
    guard instruction.encoding == .legacy else { throw refused(instruction) }
    if isUndefined(instruction) { throw .exception(.invalidOpcode) }
    if instruction.classification == .privileged, cpl != 0, !isPort(instruction), !isInterruptFlag(instruction) {
      throw .exception(.general)
    }
    let isDone =
      switch instruction.opcodeMap {
      case Instruction.OpcodeMap.oneByte: try emulateOneByte(instruction, next)
      case Instruction.OpcodeMap.escape0F: try emulateTwoBytes(instruction, next)
      default: false
      }
    if !isDone { throw refused(instruction) }
  }

  func nextRIP(_ instruction: Instruction) -> UInt64 {
    let next = rip &+ UInt64(instruction.length)
    return is64 ? next : next & 0xffff_ffff
  }

  /// RSM outside of system management mode; CLAC and STAC but at CPL 0.
  private func isUndefined(_ instruction: Instruction) -> Bool {
    guard instruction.opcodeMap == Instruction.OpcodeMap.escape0F else { return false }
    if instruction.opcode == 0xaa { return true }
    return cpl != 0 && instruction.opcode == 0x01 && (instruction.modRM == 0xca || instruction.modRM == 0xcb)
  }

  private func isPort(_ instruction: Instruction) -> Bool {
    guard instruction.opcodeMap == Instruction.OpcodeMap.oneByte else { return false }
    return switch instruction.opcode {
    case 0x6c...0x6f, 0xe4...0xe7, 0xec...0xef: true
    default: false
    }
  }

  private func isInterruptFlag(_ instruction: Instruction) -> Bool {
    instruction.opcodeMap == Instruction.OpcodeMap.oneByte && (instruction.opcode == 0xfa || instruction.opcode == 0xfb)
  }

  private var ioPrivilege: UInt8 { UInt8(truncatingIfNeeded: systemFlags >> 12 & 3) }

  // MARK: Opcodes of one byte

  private func emulateOneByte(_ instruction: Instruction, _ next: UInt64) throws(Interruption) -> Bool {
    let size = Int(instruction.operandSize)
    switch instruction.opcode {
    case 0xfa, 0xfb:
      guard cpl <= ioPrivilege || system.cr0 & 1 == 0 else { throw .exception(.general) }
      if instruction.opcode == 0xfa {
        systemFlags &= ~0x200
      } else {
        if systemFlags & 0x200 == 0 { shadow = .interrupts }
        systemFlags |= 0x200
      }
    case 0xfc: systemFlags &= ~0x400
    case 0xfd: systemFlags |= 0x400
    case 0xf4:
      // A single step ends the halt at once.
      if isTrapping { break }
      rip = next
      activity = .halted
      counters.count(.exitHalt)
      throw .stop(.stopRequested)
    case 0x9c:
      let value = rflags & ~0x3_0000
      try push(value, size: size)
    case 0x9d:
      let value = try peek(0, size: size)
      stackPointer = stackPointer &+ UInt64(size)
      applyReturnFlags(value, size: size, from: cpl, isReturn: false)
    case 0xcf:
      try control.noting(.returnToUser) { () throws(Interruption) in
        try farReturn(size: size, released: 0, isInterruptReturn: true)
      }
      return true
    case 0xca, 0xcb:
      let released = instruction.opcode == 0xca ? UInt64(bitPattern: instruction.immediate) & 0xffff : 0
      try farReturn(size: size, released: released, isInterruptReturn: false)
      return true
    case 0xea, 0x9a:
      guard case .farPointer(let selector, let offset)? = instruction.operand(at: 0)?.kind else { return false }
      rip = next
      if instruction.opcode == 0xea {
        try restoring(instruction) { () throws(Interruption) in try farJump(selector, UInt64(offset)) }
      } else {
        try restoring(instruction) { () throws(Interruption) in try farCall(selector, UInt64(offset), size: size) }
      }
      return true
    case 0xff:
      guard let memory = instruction.memoryOperand, instruction.reg == 3 || instruction.reg == 5 else { return false }
      let (offset, second) = try loadPair(memory, next, size: size, secondSize: 2)
      let selector = UInt16(truncatingIfNeeded: second)
      rip = next
      if instruction.reg == 5 {
        try restoring(instruction) { () throws(Interruption) in try farJump(selector, offset) }
      } else {
        try restoring(instruction) { () throws(Interruption) in try farCall(selector, offset, size: size) }
      }
      return true
    case 0xf1:
      // INT1 is a trap that goes through any gate, like #DB (AMD64 APM vol. 3, "INT 1").
      rip = next
      throw .exception(.debug)
    case 0xcc: try softwareInterrupt(3, next)
    case 0xcd: try softwareInterrupt(UInt8(truncatingIfNeeded: instruction.immediate), next)
    case 0xce:
      guard mode.bits != .bits64 else { throw .exception(.invalidOpcode) }
      if rflags & 0x800 == 0 { break }
      try softwareInterrupt(4, next)
    case 0x8e:
      guard let register = SegmentRegister(rawValue: instruction.reg) else { return false }
      let selector = try readRM(instruction, next, size: 2)
      try loadSegment(register, UInt16(truncatingIfNeeded: selector))
      if register == .ss { shadow = .everything }
    case 0x8c:
      guard let register = SegmentRegister(rawValue: instruction.reg) else { return false }
      try writeSelector(segment(register).selector, instruction, next)
    case 0x06, 0x0e, 0x16, 0x1e:
      guard let register = SegmentRegister(rawValue: instruction.opcode >> 3) else { return false }
      try push(UInt64(segment(register).selector), size: size)
    case 0x07, 0x17, 0x1f:
      guard let register = SegmentRegister(rawValue: instruction.opcode >> 3) else { return false }
      try popSegment(register, size: size)
    case 0xc8:
      return try emulateEnter(instruction, next)
    case 0xd7:
      guard let memory = instruction.effects.memory.0 else { return false }
      let offset = Self.cut(general(.rbx) &+ general(.rax, size: 1), to: Int(memory.addressSize))
      let place = try address(memory.segment, offset, size: 1, isWrite: false)
      setGeneral(.rax, try load(place, size: 1), size: 1)
    case 0x8f:
      try popMemory(instruction, next)
    case 0xe4...0xe7, 0xec...0xef:
      try emulatePort(instruction)
    case 0xd9, 0xdd: try emulateEnvironmentStore(instruction)
    case 0x6c...0x6f, 0xa4...0xa7, 0xaa...0xaf:
      return try emulateString(instruction, next)
    default:
      guard try emulateLegacy(instruction, next) else { return false }
    }
    rip = next
    return true
  }

  /// RIP is the next instruction's while `body` runs, as far calls push it; and the instruction's again if it throws.
  private func restoring(_ instruction: Instruction, _ body: () throws(Interruption) -> Void) throws(Interruption) {
    let own = rip &- UInt64(instruction.length)
    do throws(Interruption) {
      try body()
    } catch {
      rip = own
      throw error
    }
  }

  func popSegment(_ register: SegmentRegister, size: Int) throws(Interruption) {
    let value = try peek(0, size: size)
    // A new SS may have another width of stack pointer.
    let width = stackSize
    try loadSegment(register, UInt16(truncatingIfNeeded: value))
    setGeneral(.rsp, general(.rsp, size: width) &+ UInt64(size), size: width)
    if register == .ss { shadow = .everything }
  }

  private func softwareInterrupt(_ vector: UInt8, _ next: UInt64) throws(Interruption) {
    try deliver(
      vector, errorCode: nil, flags: rflags & ~Self.resumeFlag, isSoftware: true, returnRIP: next)
    // What MOV SS has held back comes before the handler's first instruction.
    if accessHits != 0 { throw .exception(debugTrap(accessHits)) }
    throw .stop(.stopRequested)
  }

  /// POP to memory by RSP on a 16-bit stack: the address is formed with SP as it is afterwards.
  private func popMemory(_ instruction: Instruction, _ next: UInt64) throws(Interruption) {
    guard let memory = instruction.memoryOperand else { throw refused(instruction) }
    let size = Int(instruction.operandSize)
    let value = try peek(0, size: size)
    let old = general(.rsp)
    stackPointer = stackPointer &+ UInt64(size)
    do throws(Interruption) {
      try save(try linear(memory, next, size: size, isWrite: true), value, size: size)
    } catch {
      setGeneral(.rsp, old)
      throw error
    }
  }

  private func emulateEnter(_ instruction: Instruction, _ next: UInt64) throws(Interruption) -> Bool {
    let size = Int(instruction.operandSize)
    let level = Int(instruction.secondImmediate & 31)
    let top = stackPointer
    func place(_ distance: Int) throws(Interruption) -> UInt64 {
      let offset = Self.cut(top &- UInt64(distance), to: stackSize)
      return try address(.ss, offset, size: size, isWrite: true)
    }
    let pushes = level == 0 ? 1 : level + 1
    let end = size * pushes + Int(instruction.immediate & 0xffff)
    // What has been pushed stays in memory when a later access faults, as on AMD's processors.
    let oldFrame = general(.rbp)
    func outerFrame(_ index: Int) throws(Interruption) -> UInt64 {
      let offset = Self.cut(oldFrame &- UInt64(index * size), to: stackSize)
      return try address(.ss, offset, size: size, isWrite: false)
    }
    // All of RSP goes to RBP, though only a part of it counts.
    let oldPointer = general(.rsp)
    stackPointer = top &- UInt64(size)
    let frame = general(.rsp)
    setGeneral(.rsp, oldPointer)
    try save(try place(size), Self.cut(oldFrame, to: size), size: size, isStack: true)
    for index in stride(from: 1, to: level, by: 1) {
      let pointer = try load(try outerFrame(index), size: size, isStack: true)
      try save(try place((index + 1) * size), pointer, size: size, isStack: true)
    }
    if level > 0 {
      try save(try place(pushes * size), Self.cut(frame, to: size), size: size, isStack: true)
    }
    // The end of the space that is allocated must be writable.
    _ = try locate(try place(end), count: size, .write, isStack: true)
    setGeneral(.rbp, frame, size: size)
    stackPointer = top &- UInt64(end)
    rip = next
    return true
  }

  // MARK: Operands

  func rmRegister(_ instruction: Instruction) -> GeneralRegister {
    GeneralRegister(rawValue: instruction.rm | instruction.rex << 3 & 8) ?? .rax
  }

  func readRM(_ instruction: Instruction, _ next: UInt64, size: Int) throws(Interruption) -> UInt64 {
    if let memory = instruction.memoryOperand {
      return try load(try linear(memory, next, size: size, isWrite: false), size: size)
    }
    return general(rmRegister(instruction), size: size)
  }

  /// Selectors and machine status words: 16 bits in memory, zero-extended in registers of the operand size.
  func writeSelector(_ value: UInt16, _ instruction: Instruction, _ next: UInt64) throws(Interruption) {
    if let memory = instruction.memoryOperand {
      try save(try linear(memory, next, size: 2, isWrite: true), UInt64(value), size: 2)
    } else {
      setGeneral(rmRegister(instruction), UInt64(value), size: Int(instruction.operandSize))
    }
  }

  // MARK: Ports

  /// IOPL, or the permission bitmap in the TSS.
  func checkPort(_ port: UInt16, width: AccessWidth) throws(Interruption) {
    guard system.cr0 & 1 != 0, cpl > ioPrivilege else { return }
    guard system.task.attributes & 8 != 0, system.task.limit >= 0x67 else { throw .exception(.general) }
    let map = try load(system.task.base &+ 0x66, size: 2, asSupervisor: true)
    let place = map &+ UInt64(port) >> 3
    guard place &+ 1 <= UInt64(system.task.limit) else { throw .exception(.general) }
    let bits = try load(system.task.base &+ place, size: 2, asSupervisor: true)
    let mask = (1 << UInt64(width.rawValue)) - 1
    guard bits >> UInt64(port & 7) & UInt64(mask) == 0 else { throw .exception(.general) }
  }

  private func emulatePort(_ instruction: Instruction) throws(Interruption) {
    let isImmediate = instruction.opcode < 0xe8
    let port =
      isImmediate
      ? UInt16(truncatingIfNeeded: instruction.immediate & 0xff) : UInt16(truncatingIfNeeded: general(.rdx))
    let size = instruction.opcode & 1 == 0 ? 1 : min(Int(instruction.operandSize), 4)
    guard let width = AccessWidth(rawValue: size) else { throw refused(instruction) }
    try checkPort(port, width: width)
    checkPortBreakpoints(port, width: width)
    if instruction.opcode & 2 == 0 {
      setGeneral(.rax, readPort(port, width: width), size: size)
    } else {
      if let reason = writePort(port, general(.rax, size: size), width: width) {
        rip = nextRIP(instruction)
        throw .stop(reason)
      }
    }
  }
}
