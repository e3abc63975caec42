/// An operand as far as its place in the encoding goes: `Operand` without what memory is made of, and much cheaper.
public struct RegisterField: Sendable, Hashable, BitwiseCopyable {
  /// What it names.
  public enum Kind: UInt8, Sendable, BitwiseCopyable {
    case general
    /// AH, CH, DH or BH: the second byte of `register`.
    case highByte
    /// What ModRM names.
    case memory
    /// Memory that ModRM doesn't name.
    case implicitMemory
    /// A vector, MMX or x87 register, or an immediate.
    case other
    /// A segment, control or debug register, a branch's offset, a far pointer.
    case system
  }

  /// What it names.
  public internal(set) var kind: Kind
  /// Means something for `general` and `highByte` only.
  public internal(set) var register = GeneralRegister.rax
  /// What happens to it.
  public internal(set) var access: Access
  /// Where the register's number is.
  public internal(set) var place: Operand.Place
  /// A register of one byte.
  public internal(set) var isByte = false
}

extension Instruction {
  /// The field of the operand at `index`, which is below `operandCount`.
  public func field(at index: Int) -> RegisterField {
    let tables = OpcodeTables.shared
    let form = tables.forms + Int(form)
    let specification =
      switch index {
      case 0: form.pointee.operands.0
      case 1: form.pointee.operands.1
      case 2: form.pointee.operands.2
      default: form.pointee.operands.3
      }
    switch specification.method {
    case .modRMGeneral, .rmGeneral:
      if hasModRMMemory { return RegisterField(kind: .memory, access: specification.access, place: .modRMRm) }
      return field(rm, rexB, specification, .modRMRm, tables)
    case .regGeneral: return field(reg, rexR, specification, .modRMReg, tables)
    case .opcodeGeneral: return field(opcode & 7, rexB, specification, .opcode, tables)
    case .vvvvGeneral: return field(vvvvNumber & 7, vvvvNumber & 8, specification, .vvvv, tables)
    case .modRMMemory, .gather: return RegisterField(kind: .memory, access: specification.access, place: .modRMRm)
    case .modRMVector, .rmVector, .modRMMMX, .rmMMX:
      return RegisterField(
        kind: hasModRMMemory ? .memory : .other, access: specification.access, place: .modRMRm)
    case .regVector, .regMMX: return RegisterField(kind: .other, access: specification.access, place: .modRMReg)
    case .vvvvVector: return RegisterField(kind: .other, access: specification.access, place: .vvvv)
    case .immediateVector, .immediate:
      return RegisterField(kind: .other, access: specification.access, place: .immediate)
    case .rmX87: return RegisterField(kind: .other, access: specification.access, place: .modRMRm)
    case .none, .fixedVector, .fixedX87: return RegisterField(kind: .other, access: specification.access, place: .none)
    case .fixedGeneral:
      let isHigh = specification.size == .highByte
      return RegisterField(
        kind: isHigh ? .highByte : .general, register: GeneralRegister(rawValue: specification.number) ?? .rax,
        access: specification.access, place: .none, isByte: width(of: specification) == 1)
    case .directMemory, .sourceString, .destinationString, .maskedString, .tableLookup, .push, .pop, .leave:
      return RegisterField(kind: .implicitMemory, access: specification.access, place: .none)
    case .regSegment, .regControl, .regDebug:
      return RegisterField(kind: .system, access: specification.access, place: .modRMReg)
    case .relative, .farPointer: return RegisterField(kind: .system, access: specification.access, place: .immediate)
    case .fixedSegment: return RegisterField(kind: .system, access: specification.access, place: .none)
    }
  }

  @inline(__always)
  private func field(
    _ number: UInt8, _ high: UInt8, _ specification: OperandSpecification, _ place: Operand.Place,
    _ tables: OpcodeTables
  ) -> RegisterField {
    let isHigh = specification.size == .byte && number >= 4 && high == 0 && isWithoutREX
    return RegisterField(
      kind: isHigh ? .highByte : .general,
      register: GeneralRegister(rawValue: isHigh ? number - 4 : number | high) ?? .rax,
      access: specification.access, place: place,
      isByte: tables.widths[specification.size.rawValue, widthContext] == 1)
  }
}
