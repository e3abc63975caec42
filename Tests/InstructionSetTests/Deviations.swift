import CZydis
import InstructionSet

/// Where this decoder and Zydis 4.0 differ and are meant to.
enum Deviations {
  /// ISA sets that the announced processor doesn't have: classified as undefined.
  static func isUnsupported(_ oracle: Oracle, _ mode: CPUMode) -> Bool {
    let set = oracle.isaSet
    if prefixes.contains(where: { set.hasPrefix($0) }) { return true }
    if sets.contains(set) { return true }
    return ["ud0", "ud1", "ud2"].contains(oracle.mnemonic)
  }

  private static let prefixes = ["AVX512", "AMX_", "KNC", "PADLOCK", "KEYLOCKER"]
  private static let sets: Set<String> = [
    "AMD3DNOW", "XOP", "FMA4", "TBM", "LWP", "CET", "RTM", "SGX", "SGX_ENCLV", "SMX", "AVX_VNNI", "ENQCMD", "HRESET",
    "MCOMMIT", "MOVDIR", "PCONFIG", "PT", "RDPRU", "SERIALIZE", "SNP", "TDX", "TSX_LDTRK", "UINTR", "WAITPKG",
  ]

  static func adjust(_ ours: inout OracleEffects, _ theirs: inout OracleEffects, _ instruction: Instruction, _ oracle: Oracle) {
    // A repeated string instruction is conditional in Zydis too, but it drops the read of an index register, which
    // both sides add with the memory operand.
  }
}
