import TrivisorCZydis
import TrivisorInstructionSet

/// Where this decoder and Zydis 4.0 differ and are meant to: what the announced processor doesn't have, where AMD's
/// processors differ from Intel's, and where Zydis says something else than the manuals do. docs/decoder.md lists them.
enum Deviations {
  /// Zydis decodes it, and for this processor it is undefined.
  static func isUnsupported(_ oracle: Oracle, _ mode: CPUMode) -> Bool {
    let set = oracle.isaSet
    if setPrefixes.contains(where: { set.hasPrefix($0) }) { return true }
    if sets.contains(set) { return true }
    switch oracle.mnemonic {
    // Undefined by definition.
    case "ud0", "ud1", "ud2": return true
    // AMD64 APM vol. 3, "SYSENTER": #UD in long mode.
    case "sysenter", "sysexit": return mode == .bits64
    // APM vol. 3, "MONITORX", "MWAITX": 66, F3 and F2 make them undefined (seen on a Zen processor).
    case "monitorx", "mwaitx", "invlpgb", "tlbsync": return true
    default: return false
    }
  }

  private static let setPrefixes = ["AVX512", "AMX_", "KNC", "PADLOCK", "KEYLOCKER"]
  private static let sets: Set<String> = [
    "AMD3DNOW", "XOP", "FMA4", "TBM", "LWP", "CET", "RTM", "SGX", "SGX_ENCLV", "SMX", "AVX_VNNI", "ENQCMD", "HRESET",
    "MCOMMIT", "MOVDIR", "PCONFIG", "PT", "RDPRU", "SERIALIZE", "SNP", "TDX", "TSX_LDTRK", "UINTR", "WAITPKG",
    // PREFETCH with a register: APM vol. 3, "PREFETCHlevel", and seen to be #UD on a Zen processor.
    "PREFETCH_NOP",
  ]

  /// AMD64 APM vol. 1, 3.7.2: in 64-bit mode 66 makes a near branch 16 bits wide; Zydis' AMD mode does so for
  /// immediate offsets only.
  static func isWideNearBranch(_ instruction: Instruction) -> Bool {
    guard instruction.mode == .bits64, instruction.prefixes.contains(.operandSize) else { return false }
    switch instruction.classification {
    case .indirectJump, .indirectCall, .nearReturn, .jump, .conditionalJump, .loop, .call: return true
    default: return false
    }
  }

  /// Zydis' explicit operands say something else: widths as above; the second operand of a multi-byte NOP, which has
  /// none that matters; F3 41 90, which isn't PAUSE; 64 bits for MOVMSKPS with REX.W, of which at most 8 are not 0.
  static func differsInOperands(_ instruction: Instruction, _ oracle: Oracle) -> Bool {
    if isWideNearBranch(instruction) || isFarPointerWithW(instruction) { return true }
    if instruction.classification == .farCall || instruction.classification == .farJump { return true }
    return ["nop", "movmskps", "movmskpd"].contains(instruction.mnemonic) || oracle.mnemonic == "pause"
  }

  /// SDM vol. 2: MOVUPS, MOVUPD, MOVDQU, LDDQU and the string comparisons of SSE4.2 are of class 4 but take any
  /// address; CVTPD2PI and CVTTPD2PI (vol. 3, table 24-4) and CMPXCHG16B have no class and want multiples of 16.
  static func differsInAlignment(_ instruction: Instruction) -> Bool {
    guard instruction.encoding == .legacy else { return false }
    switch instruction.mnemonic {
    case "movups", "movupd", "movdqu", "lddqu", "pcmpestri", "pcmpestrm", "pcmpistri", "pcmpistrm":
      return instruction.memoryOperand?.mustBeAligned == false
    case "cvtpd2pi", "cvttpd2pi", "cmpxchg16b": return instruction.memoryOperand?.mustBeAligned == true
    // Of class 4, but a Zen processor takes any address.
    case "sha1nexte", "sha1msg1", "sha1msg2", "sha1rnds4", "sha256rnds2", "sha256msg1", "sha256msg2": return true
    default: return false
    }
  }

  /// Widths: near branches as above, and far pointers, which REX.W doesn't widen on AMD's processors.
  static func differsInOperandSize(_ instruction: Instruction, _ theirs: ZydisDecodedInstruction) -> Bool {
    if isWideNearBranch(instruction) || isFarPointerWithW(instruction) { return true }
    switch instruction.mnemonic {
    case "nop": return true
    // Nothing of a port is wider than 4.
    case "in", "out", "ins", "outs": return min(instruction.operandSize, 4) == theirs.operand_width / 8
    default: return false
    }
  }

  static func isFarPointerWithW(_ instruction: Instruction) -> Bool {
    guard instruction.mode == .bits64, instruction.rexW else { return false }
    switch instruction.mnemonic {
    case "lss", "lfs", "lgs": return true
    case "jmpf", "callf": return true
    default: return false
    }
  }

  /// An address of 32 bits in 64-bit mode with SIB, no base (mod 0, base 5) and REX.B: there is a displacement and no
  /// base register (APM vol. 3, table 1-14, "REX.B is ignored"); Zydis says R13 and drops the displacement.
  static func isBaselessSIBWithB(_ instruction: Instruction) -> Bool {
    instruction.sibOffset != 0 && instruction.sib & 7 == 5 && instruction.mod == 0 && instruction.rex & 1 != 0
      && instruction.addressSize == 4 && instruction.mode == .bits64
  }

  /// Brings both sides together where they differ knowingly, and only there.
  static func adjust(
    _ ours: inout OracleEffects, _ theirs: inout OracleEffects, _ instruction: Instruction, _ oracle: Oracle
  ) {
    if isBaselessSIBWithB(instruction) {
      theirs.general = ours.general
      theirs.vector = ours.vector
      theirs.memory = ours.memory
    }
    if isWideNearBranch(instruction) || isFarPointerWithW(instruction) { theirs.memory = ours.memory }
    adjustFlags(&ours, &theirs, instruction)
    adjustMemory(&ours, &theirs, instruction, oracle)
    adjustRegisters(&ours, &theirs, instruction, oracle)
  }

  private static func adjustFlags(
    _ ours: inout OracleEffects, _ theirs: inout OracleEffects, _ instruction: Instruction
  ) {
    let opcode = (instruction.opcodeMap, instruction.opcode)
    switch instruction.classification {
    case .privileged, .systemCall, .softwareInterrupt, .interruptReturn:
      // The engine emulates these; the table gives no flags beyond what its author needed.
      theirs.copyFlags(of: ours)
    default: break
    }
    switch instruction.mnemonic {
    case "pushf", "popf": theirs.copyFlags(of: ours)
    // SDM vol. 2, "SBB": AF is set according to the result; Zydis calls it undefined for opcodes 18 to 1D.
    case "sbb":
      theirs.modified |= Flags.auxiliary.rawValue
      theirs.undefined &= ~Flags.auxiliary.rawValue
    // APM vol. 3, "BEXTR": ZF by the result, AF, PF and SF undefined, the others cleared. "BLSI": CF by the source.
    // SDM vol. 2, "PTEST", "VTESTPS": ZF and CF by the result, the others cleared. Zydis has other sets.
    case "bextr", "blsi", "vptest", "vtestps", "vtestpd": theirs.copyFlags(of: ours)
    // SDM vol. 2, "RCL", "SAL": OF is defined for shifts and rotates by one.
    case "rol", "ror", "rcl", "rcr", "shl", "shr", "sar":
      if opcode == (0, 0xd0) || opcode == (0, 0xd1) {
        theirs.modified |= Flags.overflow.rawValue
        theirs.undefined &= ~Flags.overflow.rawValue
      }
    default: break
    }
  }

  private static func adjustMemory(
    _ ours: inout OracleEffects, _ theirs: inout OracleEffects, _ instruction: Instruction, _ oracle: Oracle
  ) {
    let category = oracle.category
    // These only take an address: no access, no segment check, no fault.
    if category == "PREFETCH" || category == "PREFETCHWT1" || category == "NOP" || category == "WIDENOP"
      || ["invlpg", "prefetchw"].contains(instruction.mnemonic)
    {
      theirs.forgetAccess()
    }
    if instruction.mnemonic == "lea" {
      ours.forgetSegments()
      theirs.forgetSegments()
    }
    // Zydis gives the size of the line, which needn't begin at the address; for protection it is a byte read.
    if instruction.mnemonic.hasPrefix("clflush") || instruction.mnemonic == "clwb" { theirs.resize(to: 1) }
    // Zydis gives the legacy area and the header; the size depends on XCR0 and on the mask.
    if oracle.isaSet.hasPrefix("XSAVE") { theirs.forgetAccess() }
    // Bytes are written as the mask says.
    if instruction.mnemonic.hasSuffix("maskmovdqu") || instruction.mnemonic == "maskmovq" {
      theirs.memory = theirs.memory.map { memory in
        var memory = memory
        memory.access = 8
        return memory
      }
    }
    // Three slots unless the privilege level changes.
    if instruction.mnemonic == "iret", instruction.mode != .bits64 { theirs.memory = ours.memory }
    // Lanes are loaded and stored as the mask says.
    if instruction.mnemonic.hasPrefix("vmaskmov") || instruction.mnemonic.hasPrefix("vpmaskmov") {
      theirs.memory = theirs.memory.map { memory in
        var memory = memory
        memory.access = memory.access == 1 ? 4 : 8
        return memory
      }
    }
    // A direct offset is not sign-extended, as the address size cuts it.
    if instruction.opcodeMap == 0, 0xa0...0xa3 ~= instruction.opcode, instruction.addressSize < 8 {
      let mask: Int64 = instruction.addressSize == 4 ? 0xffff_ffff : 0xffff
      ours.maskDisplacement(mask)
      theirs.maskDisplacement(mask)
    }
  }

  private static func adjustRegisters(
    _ ours: inout OracleEffects, _ theirs: inout OracleEffects, _ instruction: Instruction, _ oracle: Oracle
  ) {
    switch instruction.mnemonic {
    // rSI and rDI step on; Zydis says so for MOVS, STOS and LODS only.
    case "cmpsb", "cmps", "scasb", "scas", "insb", "ins", "outsb", "outs":
      theirs.general.written |= ours.general.written & 0b1100_0000
    // LEAVE loads rSP from rBP; LSL doesn't read its destination.
    case "leave": theirs.general.read &= ~(1 << 4)
    case "lsl": theirs.general = ours.general
    // APM vol. 3, "MWAITX": EBX is the timer's value.
    case "mwaitx": theirs.general = ours.general
    // AL is part of the address.
    case "xlat":
      theirs.general.read |= 1
      theirs.memory = ours.memory
    // The multi-byte NOPs have no second operand that matters.
    case "nop": theirs.general.read = ours.general.read
    // F3 41 90 is XCHG EAX, R8D (APM vol. 3, "PAUSE"; seen on a Zen processor).
    case "xchg" where oracle.mnemonic == "pause": theirs.general = ours.general
    // APM vol. 3, "SYSCALL", "SYSRET": R11 is used in long mode only.
    case "syscall", "sysret": if instruction.mode != .bits64 { theirs.general = ours.general }
    // APM vol. 4, "EXTRQ", "INSERTQ": a part of the destination is replaced, or moved down.
    case "extrq", "insertq": theirs.vector.read |= theirs.vector.written
    // Only compared.
    case "ftst", "fxam": theirs.x87.written = 0
    default: break
    }
    switch instruction.classification {
    // CS is loaded, and by some SS.
    case .farCall, .farJump, .farReturn, .interruptReturn, .systemCall, .privileged: theirs.segments = ours.segments
    default: break
    }
  }
}

extension OracleEffects {
  mutating func copyFlags(of other: OracleEffects) {
    tested = other.tested
    modified = other.modified
    cleared = other.cleared
    set = other.set
    undefined = other.undefined
  }

  mutating func forgetAccess() {
    for i in memory.indices {
      memory[i].size = 0
      memory[i].access = 0
    }
  }

  mutating func resize(to size: UInt16) {
    for i in memory.indices { memory[i].size = size }
  }

  mutating func forgetSegments() {
    for i in memory.indices { memory[i].segment = 0 }
  }

  mutating func maskDisplacement(_ mask: Int64) {
    for i in memory.indices { memory[i].displacement &= mask }
  }
}
