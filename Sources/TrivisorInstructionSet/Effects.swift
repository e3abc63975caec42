/// Everything that an instruction reads and writes, named or not, system state excepted.
///
/// Faults and what they leave behind are not part of it, nor is RIP. MXCSR and the x87 control, status and tag words go
/// with `feature`. Registers that form an address are among those read.
public struct Effects: Sendable, BitwiseCopyable {
  /// RAX to R15, whatever part of them.
  public internal(set) var general = RegisterUse()
  /// XMM and YMM registers. A write by a VEX encoding clears what lies above, so it overwrites.
  public internal(set) var vector = RegisterUse()
  /// MM0 to MM7.
  public internal(set) var mmx = RegisterUse()
  /// ST(i), counted before the instruction pushes or pops; pushing and popping move the others.
  public internal(set) var x87 = RegisterUse()
  /// Selectors and what comes with them. Being the segment of a memory operand doesn't count.
  public internal(set) var segments = RegisterUse()
  /// RFLAGS. Of instructions that an engine has to emulate (privileged ones, interrupts, system calls and returns from
  /// them) only what the table happens to say.
  public internal(set) var flags = FlagUse()
  /// The memory that ModRM names if it is accessed or its address is taken, then what is implicit.
  public internal(set) var memory: (MemoryOperand?, MemoryOperand?) = (nil, nil)

  mutating func add(_ operand: MemoryOperand) {
    if memory.0 == nil { memory.0 = operand } else { memory.1 = operand }
    if let base = operand.base { general.read.insert(RegisterSet(number: base.rawValue)) }
    if let index = operand.index { general.read.insert(RegisterSet(number: index.rawValue)) }
    if let index = operand.vectorIndex { vector.read.insert(RegisterSet(number: index)) }
  }
}

extension RegisterUse {
  mutating func add(_ number: UInt8, _ access: Access, isWhole: Bool) {
    let set = RegisterSet(number: number)
    if access.mayRead { read.formUnion(set) }
    if access.mayWrite { written.formUnion(set) }
    if access.contains(.write), isWhole { overwritten.formUnion(set) }
  }
}

extension Instruction {
  /// What the instruction does, by its line of the table. Nothing for an undefined one.
  public var effects: Effects {
    var effects = Effects()
    let tables = OpcodeTables.shared
    let form = table
    guard self.form != 0 else { return effects }
    effects.flags = tables.flagUses[Int(form.pointee.flags)]
    for index in 0..<operandCount {
      if let operand = operand(at: index) { effects.add(operand, of: self) }
    }
    for index in 0..<Int(form.pointee.implicitCount) {
      addImplicit(tables.implicits[Int(form.pointee.implicitStart) + index], to: &effects)
    }
    if isRepeated { repeated(&effects) }
    return effects
  }

  private func addImplicit(_ specification: OperandSpecification, to effects: inout Effects) {
    switch specification.method {
    case .fixedGeneral:
      let size = width(of: specification)
      effects.general.add(specification.number, specification.access, isWhole: isWholeGeneral(size))
    case .fixedVector: effects.vector.add(specification.number, specification.access, isWhole: true)
    case .fixedX87: effects.x87.add(specification.number, specification.access, isWhole: true)
    case .fixedSegment: effects.segments.add(specification.number, specification.access, isWhole: true)
    case .push, .pop:
      effects.general.add(GeneralRegister.rsp.rawValue, [.read, .write], isWhole: isWholeGeneral(stackWidth))
      effects.add(implicitMemory(specification))
    case .leave:
      effects.general.add(GeneralRegister.rsp.rawValue, .write, isWhole: isWholeGeneral(stackWidth))
      effects.add(implicitMemory(specification))
    default:
      effects.add(implicitMemory(specification))
    }
  }

  var stackWidth: UInt16 { UInt16(mode.defaultAddressSize) }

  /// A write of so many bytes leaves nothing of a general register: 32-bit writes clear the upper half in 64-bit mode,
  /// and outside of it there is none to keep.
  func isWholeGeneral(_ size: UInt16) -> Bool { size >= 4 }

  /// Memory that ModRM doesn't name.
  func implicitMemory(_ specification: OperandSpecification) -> MemoryOperand {
    let size = width(of: specification)
    var memory = MemoryOperand(
      .string, specification.access, segment: segmentOverride ?? .ds, addressSize: addressSize, size: size)
    switch specification.method {
    case .directMemory:
      memory.source = .direct
      memory.displacement = displacement
    case .sourceString: memory.base = .rsi
    case .destinationString:
      memory.base = .rdi
      memory.segment = .es
    case .maskedString:
      memory.source = .maskedString
      memory.base = .rdi
    case .tableLookup:
      memory.source = .table
      memory.base = .rbx
      memory.index = .rax
      memory.size = 1
    default:
      memory.source = .stack
      memory.segment = .ss
      memory.addressSize = mode.defaultAddressSize
      memory.base = specification.method == .leave ? .rbp : .rsp
      memory.access = specification.method == .push ? .write : .read
      memory.size = UInt16(operandSize) * UInt16(max(specification.number, 1))
    }
    return memory
  }

  /// With a count of zero a repeated string instruction does nothing.
  private func repeated(_ effects: inout Effects) {
    effects.general.read.insert(RegisterSet(number: GeneralRegister.rcx.rawValue))
    effects.general.written.insert(RegisterSet(number: GeneralRegister.rcx.rawValue))
    effects.general.overwritten = []
    effects.memory.0?.access.makeConditional()
    effects.memory.1?.access.makeConditional()
    if attributes.contains(.repeatWhile) {
      effects.flags.tested.insert(.zero)
      effects.flags.isConditional = true
    }
  }
}

extension Access {
  mutating func makeConditional() { self = Access(rawValue: rawValue << 2 & 12) }
}

extension Effects {
  fileprivate mutating func add(_ operand: Operand, of instruction: Instruction) {
    switch operand.kind {
    case .general(let register):
      general.add(register.rawValue, operand.access, isWhole: instruction.isWholeGeneral(operand.size))
    case .highByte(let register): general.add(register.rawValue, operand.access, isWhole: false)
    case .vector(let number):
      vector.add(number, operand.access, isWhole: instruction.encoding == .vex || operand.size >= 16)
    case .mmx(let number): mmx.add(number, operand.access, isWhole: true)
    case .x87(let number): x87.add(number, operand.access, isWhole: true)
    case .segment(let segment): segments.add(segment.rawValue, operand.access, isWhole: true)
    case .memory(let memory): add(memory)
    case .control, .debug, .immediate, .relative, .farPointer: break
    }
  }
}
