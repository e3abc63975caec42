/// An operand that the instruction names, as opposed to one that goes without saying.
public struct Operand: Sendable, Hashable, BitwiseCopyable {
  /// What an operand is, and which.
  public enum Kind: Sendable, Hashable, BitwiseCopyable {
    case general(GeneralRegister)
    /// AH, CH, DH or BH: the second byte of this register.
    case highByte(GeneralRegister)
    case vector(UInt8)
    case mmx(UInt8)
    /// ST(i), counted before the instruction pushes or pops.
    case x87(UInt8)
    case segment(SegmentRegister)
    case control(UInt8)
    case debug(UInt8)
    case memory(MemoryOperand)
    /// The value that the instruction makes of it; the bytes are at `immediateOffset`.
    case immediate(Int64)
    /// A branch's offset from the next instruction.
    case relative(Int64)
    case farPointer(selector: UInt16, offset: UInt32)
  }

  /// Where the register number is encoded, so that it can be replaced.
  public enum Place: UInt8, Sendable, BitwiseCopyable {
    case none, modRMReg, modRMRm, vvvv, opcode, immediate
  }

  /// What it is, and which.
  public let kind: Kind
  /// What happens to it.
  public let access: Access
  /// In bytes. For vector registers, of the part that is used.
  public let size: UInt16
  /// Where its register number is encoded.
  public let place: Place
}

extension Instruction {
  var table: UnsafePointer<Form> { OpcodeTables.shared.forms + Int(form) }

  /// How many operands the instruction names.
  public var operandCount: Int { Int(table.pointee.operandCount) }

  /// The operand at `index`, in Intel's order, destination first; nil past the last one.
  public func operand(at index: Int) -> Operand? {
    let form = table
    guard index >= 0, index < Int(form.pointee.operandCount) else { return nil }
    let specification =
      switch index {
      case 0: form.pointee.operands.0
      case 1: form.pointee.operands.1
      case 2: form.pointee.operands.2
      default: form.pointee.operands.3
      }
    guard let (kind, place) = resolve(specification, index) else { return nil }
    return Operand(kind: kind, access: specification.access, size: width(of: specification), place: place)
  }

  private func resolve(_ specification: OperandSpecification, _ position: Int) -> (Operand.Kind, Operand.Place)? {
    switch specification.method {
    case .modRMGeneral, .rmGeneral:
      if hasModRMMemory { return (.memory(modRMMemory(specification)), .modRMRm) }
      return (general(rm, rexB, specification.size), .modRMRm)
    case .regGeneral: return (general(reg, rexR, specification.size), .modRMReg)
    case .opcodeGeneral: return (general(opcode & 7, rexB, specification.size), .opcode)
    case .vvvvGeneral: return (general(vvvvNumber, 0, .generalByW), .vvvv)
    case .modRMMemory, .gather: return (.memory(modRMMemory(specification)), .modRMRm)
    case .modRMVector, .rmVector:
      if hasModRMMemory { return (.memory(modRMMemory(specification)), .modRMRm) }
      return (.vector(rm | rexB), .modRMRm)
    case .regVector: return (.vector(reg | rexR), .modRMReg)
    case .vvvvVector: return (.vector(vvvvNumber), .vvvv)
    case .immediateVector:
      let number = UInt8(truncatingIfNeeded: immediate) >> 4
      return (.vector(mode == .bits64 ? number : number & 7), .immediate)
    case .modRMMMX, .rmMMX:
      if hasModRMMemory { return (.memory(modRMMemory(specification)), .modRMRm) }
      return (.mmx(rm), .modRMRm)
    case .regMMX: return (.mmx(reg), .modRMReg)
    case .rmX87: return (.x87(rm), .modRMRm)
    case .regSegment:
      guard let segment = SegmentRegister(rawValue: reg) else { return nil }
      return (.segment(segment), .modRMReg)
    case .regControl: return (.control(reg | rexR), .modRMReg)
    case .regDebug: return (.debug(reg | rexR), .modRMReg)
    case .immediate:
      let isSecond = secondImmediateSize != 0 && immediateIndex(of: position) == 1
      return (.immediate(isSecond ? Int64(secondImmediate) : immediate), .immediate)
    case .relative: return (.relative(immediate), .immediate)
    case .farPointer:
      return (.farPointer(selector: secondImmediate, offset: UInt32(truncatingIfNeeded: immediate)), .immediate)
    case .directMemory, .sourceString, .destinationString, .maskedString, .tableLookup, .push, .pop, .leave:
      return (.memory(implicitMemory(specification)), .none)
    case .fixedGeneral:
      guard let register = GeneralRegister(rawValue: specification.number) else { return nil }
      return (specification.size == .highByte ? .highByte(register) : .general(register), .none)
    case .fixedVector: return (.vector(specification.number), .none)
    case .fixedX87: return (.x87(specification.number), .none)
    case .fixedSegment:
      guard let segment = SegmentRegister(rawValue: specification.number) else { return nil }
      return (.segment(segment), .none)
    case .none: return nil
    }
  }

  /// Which of the immediates the operand at `position` is.
  private func immediateIndex(of position: Int) -> Int {
    let operands = table.pointee.operands
    var count = 0
    if position > 0, operands.0.method == .immediate { count += 1 }
    if position > 1, operands.1.method == .immediate { count += 1 }
    if position > 2, operands.2.method == .immediate { count += 1 }
    return count
  }

  /// VEX.vvvv as a register: three bits outside 64-bit mode.
  var vvvvNumber: UInt8 { mode == .bits64 ? vvvv : vvvv & 7 }

  private func general(_ number: UInt8, _ high: UInt8, _ size: OperandSize) -> Operand.Kind {
    if size == .byte, number >= 4, high == 0, isWithoutREX {
      return .highByte(GeneralRegister(rawValue: number - 4) ?? .rax)
    }
    return .general(GeneralRegister(rawValue: number | high) ?? .rax)
  }

  /// Byte registers 4 to 7 are AH, CH, DH and BH.
  var isWithoutREX: Bool { !prefixes.contains(.rex) && encoding == .legacy }

  /// The width of an operand in bytes.
  func width(of specification: OperandSpecification) -> UInt16 {
    switch specification.size {
    case .address: return UInt16(addressSize)
    case .stack: return UInt16(mode.defaultAddressSize)
    default: return OpcodeTables.shared.widths[specification.size.rawValue, widthContext]
    }
  }

  @inline(__always)
  var widthContext: WidthContext {
    WidthContext(
      operandSize: operandSize, isLong: encoding == .vex && vectorLength == 1, is64Bit: mode == .bits64, hasW: rexW)
  }
}
