// An innocuous instruction with the fields of its encoding told apart: which hold registers that may have to be replaced.

import TrivisorInstructionSet

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

  /// Needs no temporary.
  var isAtHome: Bool {
    switch self {
    case .fixed: true
    case .general(let register, _): Host.home(register) != nil
    case .highByte: false
    }
  }

  /// The number of the host's register, where it is at home.
  var home: UInt8 {
    switch self {
    case .fixed(let number): number
    case .general(let register, _), .highByte(let register, _): Host.home(register) ?? 0
    }
  }

  /// The register's number in an encoding of the guest's.
  var number: UInt8 {
    switch self {
    case .fixed(let number): number
    case .general(let register, _): register.rawValue
    case .highByte(let register, _): register.rawValue + 4
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
  /// Its registers must be where the guest has them: see `OwnRegistersCode`.
  var needsOwnRegisters = false
  /// General registers that it names or uses, those of the address apart.
  var registers: RegisterSet = []

  /// All register fields are in registers of the host by the same or another number: nothing has to be brought.
  private(set) var isAtHome = false

  var hasHighByte: Bool { reg.isHighByte || rm.isHighByte || vvvv.isHighByte }

  /// A high byte is written, and another operand is in the same register.
  private var hasBothHalves: Bool {
    func clash(_ high: RegisterSlot, _ other: RegisterSlot) -> Bool {
      high.isHighByte && high.isWritten && !other.isHighByte && other.register == high.register
    }
    return clash(reg, rm) || clash(reg, vvvv) || clash(rm, reg) || clash(rm, vvvv)
  }

  /// The shape of an instruction in a code of this width.
  /// - Throws: `Refusal`, naming what has no place in an encoding.
  init(_ instruction: Instruction, _ effects: InstructionUse, is64: Bool) throws(Refusal) {
    let rexR = instruction.rex << 1 & 8
    let rexB = instruction.rex << 3 & 8
    opcode = instruction.opcode
    reg = .fixed(instruction.reg | rexR)
    rm = .fixed(instruction.rm | rexB)
    vvvv = .fixed(is64 ? instruction.vvvv : instruction.vvvv & 7)
    lacksModRM = !instruction.hasModRM
    var fields = Fields()
    try readOperands(of: instruction, into: &fields)
    var implicit = effects.general.read.union(effects.general.written).subtracting(fields.named)
    if let memory {
      if let base = memory.base { implicit.remove(RegisterSet(number: base.rawValue)) }
      if let index = memory.index { implicit.remove(RegisterSet(number: index.rawValue)) }
      guard memory.source == .modRM else { throw Refusal(reason: "implicit memory") }
    }
    if instruction.encoding == .legacy {
      if instruction.opcodeMap == Instruction.OpcodeMap.oneByte {
        try lengthen(instruction, &fields)
      } else if instruction.opcodeMap == Instruction.OpcodeMap.escape0F {
        try describeEscaped(instruction, fields)
      }
    }
    if lacksModRM, fields.inOpcode != nil { throw Refusal(reason: "register in the opcode") }
    if fields.fixedRAX != nil || implicit.contains(GeneralRegister.rax) { usesRAX = true }
    // RAX may be part of the address, too.
    if instruction.operation == .pcmpestri || instruction.operation == .pcmpestrm { usesRAX = true }
    if implicit.contains(GeneralRegister.r10) || implicit.contains(GeneralRegister.r11)
      || implicit.contains(GeneralRegister.r15)
    {
      needsOwnRegisters = true
    }
    registers = fields.named.union(implicit)
    if usesRAX, reg.register == .rax || rm.register == .rax || vvvv.register == .rax { needsOwnRegisters = true }
    if hasBothHalves { needsOwnRegisters = true }
    isAtHome = !needsOwnRegisters && !usesRAX && reg.isAtHome && vvvv.isAtHome && (memory != nil || rm.isAtHome)
    if let memory, !(1...64).contains(memory.size), memory.size != 94, memory.size != 108 {
      throw Refusal(reason: "access of \(memory.size) bytes")
    }
  }

  /// What the operands leave to be placed.
  private struct Fields {
    var named: RegisterSet = []
    var inOpcode: RegisterSlot?
    var fixedRAX: RegisterSlot?
  }

  private mutating func readOperands(of instruction: Instruction, into fields: inout Fields) throws(Refusal) {
    for index in 0..<instruction.operandCount {
      let field = instruction.field(at: index)
      let slot: RegisterSlot
      switch field.kind {
      case .general: slot = .general(field.register, field.access)
      case .highByte: slot = .highByte(field.register, field.access)
      case .memory:
        memory = instruction.memoryOperand
        continue
      case .implicitMemory: throw Refusal(reason: "implicit memory")
      case .other: continue
      case .system: throw Refusal(reason: "operand")
      }
      fields.named.insert(RegisterSet(number: field.register.rawValue))
      if field.isByte { hasByteRegister = true }
      switch field.place {
      case .modRMReg: reg = slot
      case .modRMRm: rm = slot
      case .vvvv: vvvv = slot
      case .opcode: fields.inOpcode = slot
      case .none:
        // A shift's CL is where it was; what has no home of its own is not.
        guard field.kind == .general else {
          needsOwnRegisters = true
          continue
        }
        if Host.home(field.register) == nil { needsOwnRegisters = true }
        if field.register == .rax { fields.fixedRAX = slot }
      case .immediate: throw Refusal(reason: "register in an immediate")
      }
    }
  }

  /// Short forms without ModRM become the long ones.
  private mutating func lengthen(_ instruction: Instruction, _ fields: inout Fields) throws(Refusal) {
    func inOpcode() throws(Refusal) -> RegisterSlot {
      guard let slot = fields.inOpcode else { throw Refusal(reason: "operand") }
      return slot
    }
    switch instruction.opcode {
    case 0x00...0x3f where instruction.opcode & 7 >= 4:
      rm = fields.fixedRAX ?? .general(.rax, [.read, .write])
      reg = .fixed(instruction.opcode >> 3 & 7)
      lacksModRM = false
      opcode = 0x80 | instruction.opcode & 1
      fields.fixedRAX = nil
    case 0xa8, 0xa9:
      rm = fields.fixedRAX ?? .general(.rax, .read)
      reg = .fixed(0)
      opcode = instruction.opcode == 0xa8 ? 0xf6 : 0xf7
      lacksModRM = false
      fields.fixedRAX = nil
    case 0x40...0x4f:
      rm = try inOpcode()
      reg = .fixed(instruction.opcode >> 3 & 1)
      opcode = 0xff
      lacksModRM = false
    case 0x90...0x97:
      rm = try inOpcode()
      reg = .general(.rax, [.read, .write])
      opcode = 0x87
      lacksModRM = false
      fields.fixedRAX = nil
    case 0xb0...0xbf:
      rm = try inOpcode()
      reg = .fixed(0)
      opcode = instruction.opcode < 0xb8 ? 0xc6 : 0xc7
      lacksModRM = false
    // 82 is 80 outside 64-bit mode.
    case 0x82: opcode = 0x80
    // MUL, IMUL, DIV, IDIV.
    case 0xf6, 0xf7: usesRAX = instruction.reg >= 4
    // CBW and CWD in their widths, SAHF, LAHF.
    case 0x98, 0x99, 0x9e, 0x9f: usesRAX = true
    default: break
    }
  }

  private mutating func describeEscaped(_ instruction: Instruction, _ fields: Fields) throws(Refusal) {
    switch instruction.operation {
    case .cmpxchg, .cmpxchg8b, .cmpxchg16b:
      usesRAX = true
      if rm.register == .rax { needsOwnRegisters = true }
    case .bswap:
      // The register is in the opcode: `encode` puts it back.
      guard let slot = fields.inOpcode else { throw Refusal(reason: "operand") }
      rm = slot
      lacksModRM = false
    default: break
    }
  }

  // MARK: Encoding

  /// Writes the instruction with other registers and another place.
  func encode(
    _ instruction: Instruction, reg: UInt8, vvvv: UInt8, _ rm: Place, is64: Bool, is16: Bool, keepsRepeat: Bool,
    into code: inout Emitter
  ) {
    let place = lacksModRM ? nil : rm
    let reg = lacksModRM ? 0 : reg
    if instruction.encoding == .vex {
      code.vex(
        pp: instruction.simdPrefix, map: instruction.opcodeMap, w: instruction.rexW, length: instruction.vectorLength,
        vvvv: vvvv, opcode, reg: reg, place)
    } else {
      var prefixes: PrefixBits = []
      if needsOperandSizePrefix(instruction, is16: is16) { prefixes.insert(.operandSize) }
      if instruction.prefixes.contains(.lock) { prefixes.insert(.lock) }
      if instruction.opcodeMap != Instruction.OpcodeMap.oneByte {
        if instruction.prefixes.contains(.rep), keepsRepeat { prefixes.insert(.repeatZero) }
        if instruction.prefixes.contains(.repne) { prefixes.insert(.repeatNotZero) }
      }
      if instruction.operation == .bswap, case .register(let number) = rm {
        code.byteSwap(number, prefixes, w: instruction.rexW)
        return
      }
      code.legacy(
        prefixes, w: instruction.rexW && is64, map: instruction.opcodeMap, opcode, reg: reg, place,
        needsREX: hasByteRegister && !(needsOwnRegisters && hasHighByte))
    }
    // Outside 64-bit mode a vector register in an immediate has three bits.
    let isNarrowed = !is64 && instruction.encoding == .vex && instruction.hasVectorInImmediate
    code.immediate(isNarrowed ? instruction.immediate & 0x7f : instruction.immediate, size: instruction.immediateSize)
    if instruction.secondImmediateSize != 0 {
      code.immediate(Int64(instruction.secondImmediate), size: instruction.secondImmediateSize)
    }
  }

  /// The host runs 64-bit code, where 16-bit operands need the prefix that 16-bit code goes without.
  private func needsOperandSizePrefix(_ instruction: Instruction, is16: Bool) -> Bool {
    let hasPrefix = instruction.prefixes.contains(.operandSize)
    guard is16 else { return hasPrefix }
    let decidesSize = instruction.operandSizeMatters || instruction.opcodeMap == Instruction.OpcodeMap.oneByte
    return decidesSize ? instruction.operandSize == 2 : hasPrefix
  }
}
