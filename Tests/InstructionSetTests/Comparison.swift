import TrivisorCZydis
import TrivisorInstructionSet

/// Decodes with both and says where they differ.
struct Comparison {
  let mode: CPUMode
  let decoder: Decoder
  var oracle: Oracle

  /// Mismatches by what differs and for which mnemonic, with a count and the first few examples.
  private(set) var findings: [String: Finding] = [:]
  /// Instructions that Zydis knows and the table doesn't or calls undefined, by Zydis' ISA set.
  private(set) var unsupported: [String: Int] = [:]
  private(set) var compared = 0
  private(set) var valid = 0

  struct Finding {
    var count = 0
    var examples: [String] = []
  }

  init(mode: CPUMode) {
    self.mode = mode
    decoder = Decoder(mode: mode)
    oracle = Oracle(mode: mode)
  }

  /// Compares at the start of `bytes` and returns the length to go on by.
  @discardableResult
  mutating func compare(_ bytes: UnsafeRawBufferPointer) -> Int {
    compared += 1
    let ours = decoder.decode(bytes)
    guard oracle.decode(bytes) else {
      if case .instruction(let instruction) = ours, instruction.classification != .undefined {
        report(
          "valid", "status \(String(oracle.status, radix: 16)) \(instruction.mnemonic)", instruction.length, bytes, "")
      } else if oracle.needsMoreBytes, case .tooLong = ours {
        report("status", "more", 15, bytes, "too long")
      }
      return 1
    }
    let length = Int(oracle.instruction.length)
    guard case .instruction(let instruction) = ours else {
      report("status", oracle.mnemonic, UInt8(length), bytes, "\(ours)")
      return length
    }
    if instruction.classification == .undefined {
      checkUnsupported(instruction, bytes)
      return length
    }
    valid += 1
    if Int(instruction.length) != length {
      report("length", oracle.mnemonic, UInt8(length), bytes, "ours \(instruction.length)")
      return length
    }
    checkParts(instruction, bytes)
    checkOperands(instruction, bytes)
    return length
  }

  mutating func report(
    _ what: String, _ mnemonic: String, _ length: UInt8, _ bytes: UnsafeRawBufferPointer, _ detail: String
  ) {
    let key = "\(what) \(mnemonic)"
    var finding = findings[key, default: Finding()]
    finding.count += 1
    if finding.examples.count < 2 {
      finding.examples.append(
        bytes.prefix(Int(length)).map { hex($0) }.joined(separator: " ") + "  " + detail)
    }
    findings[key] = finding
  }

  private func hex(_ byte: UInt8) -> String {
    let digits = Array("0123456789abcdef")
    return String([digits[Int(byte >> 4)], digits[Int(byte & 15)]])
  }

  private mutating func checkUnsupported(_ instruction: Instruction, _ bytes: UnsafeRawBufferPointer) {
    let set = oracle.isaSet
    if !Deviations.isUnsupported(oracle, mode) {
      report("undefined", "\(oracle.mnemonic) \(set)", oracle.instruction.length, bytes, "")
      return
    }
    unsupported[set, default: 0] += 1
    // Knights Corner's VEX-encoded branches are the only ones that break the rule of immediates.
    if instruction.length != oracle.instruction.length, !set.hasPrefix("KNC") {
      report("undefined length", oracle.mnemonic, oracle.instruction.length, bytes, "ours \(instruction.length)")
    }
  }

  // MARK: Parts

  private mutating func checkParts(_ ours: Instruction, _ bytes: UnsafeRawBufferPointer) {
    let theirs = oracle.instruction
    let raw = theirs.raw
    func check(_ what: String, _ a: Int, _ b: Int) {
      if a != b { report(what, oracle.mnemonic, ours.length, bytes, "ours \(a), Zydis \(b)") }
    }
    check("opcode", Int(ours.opcode), Int(theirs.opcode))
    check("map", Int(ours.opcodeMap), Int(theirs.opcode_map.rawValue))
    check("ModRM offset", Int(ours.modRMOffset), Int(raw.modrm.offset))
    if ours.hasModRM {
      check("ModRM", Int(ours.modRM), Int(raw.modrm.mod << 6 | raw.modrm.reg << 3 | raw.modrm.rm))
    }
    check("SIB", Int(ours.sibOffset), Int(raw.sib.offset))
    check("displacement offset", Int(ours.displacementOffset), Int(raw.disp.offset))
    check("displacement size", Int(ours.displacementSize), Int(raw.disp.size / 8))
    let first = raw.imm.0
    check("immediate offset", Int(ours.immediateOffset), Int(first.offset))
    check("immediate size", Int(ours.immediateSize), Int(first.size / 8))
    check("second immediate size", Int(ours.secondImmediateSize), Int(raw.imm.1.size / 8))
    if first.size > 0 {
      let mask = first.size == 64 ? -1 : Int64(1) << Int64(first.size) &- 1
      check("immediate", Int(ours.immediate & mask), Int(Int64(bitPattern: first.value.u) & mask))
    }
    check("address size", Int(ours.addressSize), Int(theirs.address_width / 8))
    if ours.operandSizeMatters, ours.operandSize != theirs.operand_width / 8,
      !Deviations.differsInOperandSize(ours, theirs)
    {
      check("operand size", Int(ours.operandSize), Int(theirs.operand_width / 8))
    }
  }

  // MARK: Operands and effects

  private mutating func checkOperands(_ ours: Instruction, _ bytes: UnsafeRawBufferPointer) {
    let operands = oracle.operands()
    var theirs = OracleEffects(operands, oracle.instruction)
    var effects = OracleEffects(ours.effects)
    if effects != theirs {
      Deviations.adjust(&effects, &theirs, ours, oracle)
      for (what, a, b) in effects.differences(from: theirs) {
        report(what, oracle.mnemonic, ours.length, bytes, "ours \(a), Zydis \(b)")
      }
    }
    checkExplicit(ours, operands, bytes)
    checkAlignment(ours, bytes)
  }

  /// The operands that an encoding names, one by one: register, width, direction.
  private mutating func checkExplicit(
    _ ours: Instruction, _ operands: UnsafeBufferPointer<ZydisDecodedOperand>, _ bytes: UnsafeRawBufferPointer
  ) {
    var index = 0
    var differs = false
    for operand in operands
    where operand.visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT && operand.encoding != ZYDIS_OPERAND_ENCODING_NONE {
      // Registers that the table names, as AL and DX, are implicit operands to Zydis.
      while index < ours.operandCount, let our = ours.operand(at: index), !our.isEncoded { index += 1 }
      if let our = ours.operand(at: index) {
        differs = differs || !Self.matches(our, operand)
      } else {
        differs = true
      }
      index += 1
    }
    while index < ours.operandCount {
      if let our = ours.operand(at: index), our.isEncoded { differs = true }
      index += 1
    }
    if differs, !Deviations.differsInOperands(ours, oracle) {
      let text = (0..<ours.operandCount).compactMap { ours.operand(at: $0) }.map { "\($0)" }
      let their = operands.map { "\($0.type.rawValue) \($0.reg.value.rawValue) \($0.size / 8) \($0.actions)" }
      report("operands", oracle.mnemonic, ours.length, bytes, "ours \(text), Zydis \(their)")
    }
  }

  /// Zydis has SDM vol. 2's exception classes, of which these include #GP for what isn't aligned (2.4; for legacy
  /// encodings 1, 2 and 4, if 16 bytes wide).
  private mutating func checkAlignment(_ ours: Instruction, _ bytes: UnsafeRawBufferPointer) {
    guard let memory = ours.memoryOperand else { return }
    let isAligned =
      switch oracle.instruction.meta.exception_class {
      case ZYDIS_EXCEPTION_CLASS_AVX1, ZYDIS_EXCEPTION_CLASS_SSE1: memory.size >= 16
      case ZYDIS_EXCEPTION_CLASS_SSE2, ZYDIS_EXCEPTION_CLASS_SSE4: memory.size == 16
      default: false
      }
    if memory.mustBeAligned != isAligned, !Deviations.differsInAlignment(ours) {
      report(
        "alignment", oracle.mnemonic, ours.length, bytes,
        "ours \(memory.mustBeAligned) \(oracle.instruction.meta.exception_class.rawValue)")
    }
  }

  private static func matches(_ our: Operand, _ their: ZydisDecodedOperand) -> Bool {
    let size = UInt16(their.size / 8)
    switch our.kind {
    case .general(let register):
      return their.type == ZYDIS_OPERAND_TYPE_REGISTER
        && OracleRegister(their.reg.value) == .general(register.rawValue, size: our.size, isHighByte: false)
    case .highByte(let register):
      return their.type == ZYDIS_OPERAND_TYPE_REGISTER
        && OracleRegister(their.reg.value) == .general(register.rawValue, size: 1, isHighByte: true)
    case .vector(let number):
      return their.type == ZYDIS_OPERAND_TYPE_REGISTER && OracleRegister(their.reg.value) == .vector(number)
    case .mmx(let number):
      return their.type == ZYDIS_OPERAND_TYPE_REGISTER && OracleRegister(their.reg.value) == .mmx(number)
    case .x87(let number):
      return their.type == ZYDIS_OPERAND_TYPE_REGISTER && OracleRegister(their.reg.value) == .x87(number)
    case .segment(let segment):
      return their.type == ZYDIS_OPERAND_TYPE_REGISTER
        && OracleRegister(their.reg.value) == .segment(segment.rawValue)
    case .control(let number):
      return their.type == ZYDIS_OPERAND_TYPE_REGISTER && OracleRegister(their.reg.value) == .control(number)
    case .debug(let number):
      return their.type == ZYDIS_OPERAND_TYPE_REGISTER && OracleRegister(their.reg.value) == .debug(number)
    case .memory: return their.type == ZYDIS_OPERAND_TYPE_MEMORY
    case .immediate(let value):
      guard their.type == ZYDIS_OPERAND_TYPE_IMMEDIATE else { return false }
      let mask = size >= 8 ? UInt64.max : (1 << UInt64(size * 8)) &- 1
      return UInt64(bitPattern: value) & mask == their.imm.value.u & mask
    case .relative(let value): return their.type == ZYDIS_OPERAND_TYPE_IMMEDIATE && their.imm.value.s == value
    case .farPointer(let selector, let offset):
      return their.type == ZYDIS_OPERAND_TYPE_POINTER && their.ptr.segment == selector && their.ptr.offset == offset
    }
  }

  /// What differed, with examples.
  var summary: String {
    findings.sorted { $0.key < $1.key }.map { key, finding in
      "\(mode) \(key): \(finding.count)\n" + finding.examples.map { "      \($0)\n" }.joined()
    }.joined()
  }
}

extension Operand {
  /// By ModRM, VEX, the opcode's low bits or in the instruction, rather than always the same.
  var isEncoded: Bool {
    // Direct offsets (MOV A0 to A3) have no place that a register could take.
    if case .memory(let memory) = kind, memory.source == .direct { return true }
    return place != .none
  }
}
