import TrivisorCZydis
import TrivisorInstructionSet
import Testing

/// Walks the encodings and looks for instructions that the table lets keep their bytes although Zydis knows better.
@Suite("The allow-list")
struct AllowListTests {
  @Test("has nothing privileged, nothing with hidden memory, nothing that touches system state")
  func walk() {
    var seen = [Bool](repeating: false, count: Decoder.formCount)
    for mode in CPUMode.allCases { walk(mode, &seen) }
    // Every line of the table was met, and Zydis agreed with it; but for those that are undefined anyway.
    let missed = (1..<Decoder.formCount).filter { !seen[$0] }.map { Decoder.formName($0) }
    #expect(missed.filter { !$0.hasSuffix(" undefined") } == [])
  }

  private func walk(_ mode: CPUMode, _ seen: inout [Bool]) {
    var comparison = Comparison(mode: mode)
    var innocuous: [String: Int] = [:]
    var offences: [String: String] = [:]
    Walk(mode: mode).forEach { bytes in
      comparison.compare(bytes)
      guard comparison.oracle.isDecoded, case .instruction(let instruction) = comparison.decoder.decode(bytes) else {
        return
      }
      seen[Int(instruction.form)] = true
      guard instruction.classification == .innocuous else { return }
      innocuous[comparison.oracle.isaSet, default: 0] += 1
      if let reason = Sensitivity.reason(&comparison.oracle) {
        let text = bytes.prefix(Int(instruction.length)).map { String($0, radix: 16) }.joined(separator: " ")
        offences[comparison.oracle.mnemonic + ": " + reason] = text
      }
    }
    comparison.conclude("walk")
    let sets = innocuous.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }.joined(separator: ", ")
    print("innocuous, \(mode): \(sets)")
    #expect(offences == [:])
  }

  @Test(
    "is checked by something that would notice",
    arguments: [
      [0x0f, 0xa2], [0x0f, 0x01, 0xf9], [0x0f, 0x01, 0x00], [0x50], [0xa4], [0xc4, 0xe2, 0x71, 0x90, 0x04, 0x1c],
      [0x0f, 0x01, 0xfc], [0x0f, 0x01, 0xd9], [0xfa], [0x0f, 0x20, 0xc0], [0x8c, 0xd8], [0x0f, 0xc7, 0xf0], [0x9c],
      [0xe8, 0, 0, 0, 0], [0xd7], [0x66, 0x0f, 0xf7, 0xc1], [0x0f, 0x01, 0xd0], [0x0f, 0xae, 0x20], [0xd9, 0x30],
      [0xf3, 0x0f, 0xc7, 0xf8], [0x0f, 0x05], [0xf3, 0x0f, 0xae, 0xc0], [0xa1, 0, 0, 0, 0, 0, 0, 0, 0], [0xec],
    ] as [[UInt8]])
  func notices(bytes: [UInt8]) {
    var oracle = Oracle(mode: .bits64)
    #expect(bytes.withUnsafeBytes { oracle.decode($0) })
    #expect(Sensitivity.reason(&oracle) != nil)
  }
}

/// Why an instruction must not run unseen, by what Zydis knows of it.
enum Sensitivity {
  static func reason(_ oracle: inout Oracle) -> String? {
    let instruction = oracle.instruction
    if oracle.isPrivileged { return "privileged" }
    if instruction.meta.branch_type != ZYDIS_BRANCH_TYPE_NONE { return "branch" }
    if categories.contains(oracle.category) { return "category \(oracle.category)" }
    if sets.contains(oracle.isaSet) { return "ISA set \(oracle.isaSet)" }
    if mnemonics.contains(oracle.mnemonic) { return "by name" }
    if let flags = instruction.cpu_flags?.pointee {
      let touched = flags.tested | flags.modified | flags.set_0 | flags.set_1 | flags.undefined
      let harmless = Flags.arithmetic.union(.direction).rawValue
      if touched & ~harmless != 0 { return "flags \(String(touched & ~harmless, radix: 16))" }
    }
    for operand in oracle.operands() {
      if operand.type == ZYDIS_OPERAND_TYPE_MEMORY {
        if operand.visibility != ZYDIS_OPERAND_VISIBILITY_EXPLICIT { return "hidden memory" }
        if operand.mem.type == ZYDIS_MEMOP_TYPE_VSIB { return "gather" }
        if operand.encoding != ZYDIS_OPERAND_ENCODING_MODRM_RM { return "memory without ModRM" }
      } else if operand.type == ZYDIS_OPERAND_TYPE_REGISTER {
        switch OracleRegister(operand.reg.value) {
        case .segment: return "segment register"
        case .control, .debug: return "system register"
        case .ip: return "instruction pointer"
        case .other where !harmless.contains(operand.reg.value.rawValue):
          return "register \(operand.reg.value.rawValue)"
        default: break
        }
      }
    }
    return nil
  }

  private static let harmless: Set<UInt32> = [
    ZYDIS_REGISTER_FLAGS.rawValue, ZYDIS_REGISTER_EFLAGS.rawValue, ZYDIS_REGISTER_RFLAGS.rawValue,
    ZYDIS_REGISTER_MXCSR.rawValue, ZYDIS_REGISTER_X87CONTROL.rawValue, ZYDIS_REGISTER_X87STATUS.rawValue,
    ZYDIS_REGISTER_X87TAG.rawValue,
  ]

  private static let categories: Set<String> = [
    "SYSTEM", "IO", "IOSTRINGOP", "INTERRUPT", "SYSCALL", "SYSRET", "VTX", "SMAP", "PKU", "RDWRFSGS", "XSAVE",
    "XSAVEOPT", "RDPID", "RDPRU", "RDRAND", "RDSEED", "CLZERO", "WAITPKG", "UINTR", "SGX", "CET", "PT", "PCONFIG",
    "SEGOP", "CALL", "RET", "COND_BR", "UNCOND_BR", "PUSH", "POP", "STRINGOP", "HRESET", "KEYLOCKER", "ENQCMD",
    "MOVDIR", "SERIALIZE", "TSX_LDTRK", "PADLOCK", "AMX_TILE", "MPX", "KNC", "SCATTER", "GATHER", "AVX2GATHER",
  ]

  private static let sets: Set<String> = [
    "SVM", "VTX", "SMX", "SNP", "TDX", "VMFUNC", "MONITOR", "MONITORX", "MCOMMIT", "RTM", "RDTSCP", "RDPMC",
    "AMD_INVLPGB", "INVPCID", "XSAVE", "XSAVEC", "XSAVEOPT", "XSAVES", "FXSAVE", "FXSAVE64", "CET", "LWP",
  ]

  private static let mnemonics: Set<String> = [
    "vmcall", "vmmcall", "clzero", "monitorx", "mwaitx", "rdpid", "rdtsc", "rdtscp", "rdpmc", "xgetbv", "xsetbv",
    "sgdt", "sidt", "sldt", "str", "smsw", "lar", "lsl", "verr", "verw", "rdfsbase", "rdgsbase", "wrfsbase",
    "wrgsbase", "rdpkru", "wrpkru", "sysenter", "sysexit", "movdir64b", "xbegin", "xtest", "rdrand", "rdseed", "cpuid",
    "pushf", "pushfd", "pushfq", "popf", "popfd", "popfq", "lds", "les", "lfs", "lgs", "lss", "fxsave", "fxrstor",
    "fnstenv", "fnsave", "maskmovq", "maskmovdqu", "vmaskmovdqu", "xlat", "enter", "leave", "skinit", "getsec",
  ]
}
