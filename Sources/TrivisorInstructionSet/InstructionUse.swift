/// The part of `Effects` that a translator asks of every instruction: general registers and flags.
///
/// It is worked out from the table without naming the operands, which takes a fraction of the time.
public struct InstructionUse: Sendable, Hashable, BitwiseCopyable {
  /// As `Effects.general`.
  public internal(set) var general = RegisterUse()
  /// As `Effects.flags`.
  public internal(set) var flags = FlagUse()
}

extension Instruction {
  /// What the instruction does with general registers and flags. Nothing for an undefined one.
  public var use: InstructionUse {
    var use = InstructionUse()
    guard form != 0 else { return use }
    let tables = OpcodeTables.shared
    let form = tables.forms + Int(form)
    if isRepeated || form.pointee.implicitCount != 0 {
      let effects = effects
      use.general = effects.general
      use.flags = effects.flags
      return use
    }
    use.flags = tables.flagUses[Int(form.pointee.flags)]
    let count = form.pointee.operandCount
    if count > 0 { add(form.pointee.operands.0, tables, to: &use.general) }
    if count > 1 { add(form.pointee.operands.1, tables, to: &use.general) }
    if count > 2 { add(form.pointee.operands.2, tables, to: &use.general) }
    if count > 3 { add(form.pointee.operands.3, tables, to: &use.general) }
    return use
  }

  @inline(__always)
  private func add(_ specification: OperandSpecification, _ tables: OpcodeTables, to general: inout RegisterUse) {
    switch specification.method {
    case .modRMGeneral, .rmGeneral:
      if hasModRMMemory {
        addAddress(specification, to: &general)
      } else {
        add(rm, rexB, specification, tables, &general)
      }
    case .regGeneral: add(reg, rexR, specification, tables, &general)
    case .opcodeGeneral: add(opcode & 7, rexB, specification, tables, &general)
    case .vvvvGeneral: add(vvvvNumber & 7, vvvvNumber & 8, specification, tables, &general)
    case .modRMMemory, .gather: addAddress(specification, to: &general)
    case .modRMVector, .rmVector, .modRMMMX, .rmMMX: if hasModRMMemory { addAddress(specification, to: &general) }
    case .fixedGeneral:
      let size = tables.widths[specification.size.rawValue, widthContext]
      let width = specification.size == .address || specification.size == .stack ? width(of: specification) : size
      general.add(
        specification.number, specification.access,
        isWhole: specification.size != .highByte && isWholeGeneral(width))
    case .directMemory, .sourceString, .destinationString, .maskedString, .tableLookup, .push, .pop, .leave:
      addAddress(implicitMemory(specification), to: &general)
    case .none, .regVector, .vvvvVector, .immediateVector, .regMMX, .rmX87, .regSegment, .regControl, .regDebug,
      .immediate, .relative, .farPointer, .fixedVector, .fixedX87, .fixedSegment:
      break
    }
  }

  @inline(__always)
  private func add(
    _ number: UInt8, _ high: UInt8, _ specification: OperandSpecification, _ tables: OpcodeTables,
    _ general: inout RegisterUse
  ) {
    let isHighByte = specification.size == .byte && number >= 4 && high == 0 && isWithoutREX
    let isWhole = !isHighByte && isWholeGeneral(tables.widths[specification.size.rawValue, widthContext])
    general.add(isHighByte ? number - 4 : number | high, specification.access, isWhole: isWhole)
  }

  private func addAddress(_ memory: MemoryOperand, to general: inout RegisterUse) {
    if let base = memory.base { general.read.insert(RegisterSet(number: base.rawValue)) }
    if let index = memory.index { general.read.insert(RegisterSet(number: index.rawValue)) }
  }

  /// The registers that ModRM's address is made of: as `modRMMemory`, without the rest of it.
  @inline(__always)
  private func addAddress(_ specification: OperandSpecification, to general: inout RegisterUse) {
    guard addressSize != 2 else { return addAddress(modRMMemory(specification), to: &general) }
    if rm == 4 {
      let base = sib & 7
      if base != 5 || mod != 0 { general.read.insert(RegisterSet(number: base | rexB)) }
      let index = sib >> 3 & 7 | rex << 2 & 8
      if specification.method != .gather, index != 4 { general.read.insert(RegisterSet(number: index)) }
    } else if rm != 5 || mod != 0 {
      general.read.insert(RegisterSet(number: rm | rexB))
    }
  }
}
