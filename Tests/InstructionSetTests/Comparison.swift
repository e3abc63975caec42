import CZydis
import InstructionSet

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
    func value(_ offset: UInt8, _ size: UInt8) -> String { "\(offset)+\(size)" }
    var differences: [(String, String, String)] = []
    func check(_ what: String, _ a: String, _ b: String) {
      if a != b { differences.append((what, a, b)) }
    }
    check("opcode", "\(ours.opcode)", "\(theirs.opcode)")
    check("map", "\(ours.opcodeMap)", "\(theirs.opcode_map.rawValue)")
    let hasModRM = theirs.attributes & ZydisInstructionAttributes(1 << 0) != 0
    check("modrm", "\(ours.hasModRM)", "\(hasModRM)")
    if hasModRM {
      check(
        "modrm", "\(ours.modRMOffset) \(ours.mod) \(ours.reg) \(ours.rm)",
        "\(theirs.raw.modrm.offset) \(theirs.raw.modrm.mod) \(theirs.raw.modrm.reg) \(theirs.raw.modrm.rm)")
    }
    check("sib", "\(ours.sibOffset)", "\(theirs.raw.sib.offset)")
    check(
      "displacement", value(ours.displacementOffset, ours.displacementSize),
      value(theirs.raw.disp.offset, theirs.raw.disp.size / 8))
    let first = theirs.raw.imm.0
    let second = theirs.raw.imm.1
    check("immediate", value(ours.immediateOffset, ours.immediateSize), value(first.offset, first.size / 8))
    check("second immediate", "\(ours.secondImmediateSize)", "\(second.size / 8)")
    if first.size > 0 {
      let mask = first.size == 64 ? UInt64.max : (1 << UInt64(first.size)) &- 1
      check("immediate value", "\(UInt64(bitPattern: ours.immediate) & mask)", "\(first.value.u & mask)")
    }
    check("address size", "\(ours.addressSize)", "\(theirs.address_width / 8)")
    if ours.operandSizeMatters, ours.mnemonic != "nop", !Deviations.differsInOperandSize(ours) {
      // Zydis says 4 for ports with REX.W; nothing depends on it.
      let isPort = ["in", "out", "ins", "outs"].contains(ours.mnemonic)
      check("operand size", "\(isPort ? min(ours.operandSize, 4) : ours.operandSize)", "\(theirs.operand_width / 8)")
    }
    for (what, a, b) in differences {
      report(what, oracle.mnemonic, ours.length, bytes, "ours \(a), Zydis \(b)")
    }
  }

  // MARK: Operands and effects

  private mutating func checkOperands(_ ours: Instruction, _ bytes: UnsafeRawBufferPointer) {
    let operands = oracle.operands()
    var theirs = OracleEffects(operands, oracle.instruction)
    var effects = OracleEffects(ours.effects)
    Deviations.adjust(&effects, &theirs, ours, oracle)
    for (what, a, b) in effects.differences(from: theirs) {
      report(what, oracle.mnemonic, ours.length, bytes, "ours \(a), Zydis \(b)")
    }
    checkExplicit(ours, operands, bytes)
    checkAlignment(ours, bytes)
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

  /// The operands that an encoding names, one by one: register, width, direction.
  private mutating func checkExplicit(
    _ ours: Instruction, _ operands: UnsafeBufferPointer<ZydisDecodedOperand>, _ bytes: UnsafeRawBufferPointer
  ) {
    if Deviations.differsInOperands(ours, oracle) { return }
    // Direct offsets (MOV A0 to A3) have no place that a register could take.
    let encoded = (0..<ours.operandCount).compactMap { ours.operand(at: $0) }.filter {
      if case .memory(let memory) = $0.kind, memory.source == .direct { true } else { $0.place != .none }
    }
    let visible = operands.filter {
      $0.visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT && $0.encoding != ZYDIS_OPERAND_ENCODING_NONE
    }
    let differs = zip(encoded, visible).first { !Self.matches($0, $1) }
    if let (our, their) = differs {
      let what = "type \(their.type.rawValue), register \(their.reg.value.rawValue), size \(their.size / 8)"
      report("operand", oracle.mnemonic, ours.length, bytes, "ours \(our), Zydis \(what)")
    }
    if encoded.count != visible.count {
      report("operand count", oracle.mnemonic, ours.length, bytes, "ours \(encoded.count), Zydis \(visible.count)")
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

  var summary: String {
    findings.sorted { $0.key < $1.key }.map { key, finding in
      "\(mode) \(key): \(finding.count)\n" + finding.examples.map { "      \($0)\n" }.joined()
    }.joined()
  }
}
