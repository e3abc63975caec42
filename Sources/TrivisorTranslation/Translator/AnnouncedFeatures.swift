import TrivisorInstructionSet
import TrivisorVMM

/// Which encodings exist for the guest: those of the features that its CPUID announces.
package struct AnnouncedFeatures {
  private let bits: UInt64
  /// CPUID shows KVM's signature, so that VMMCALL and VMCALL do something.
  private let hasHypercalls: Bool

  /// - Parameter table: what CPUID says.
  package init(_ table: CPUIDTable) {
    var bits: UInt64 = 0
    for feature in Feature.allCases where Self.isAnnounced(feature, table) { bits |= 1 << UInt64(feature.rawValue) }
    self.bits = bits
    hasHypercalls = table.has(.hypervisor) && table.leaf(MonitorSignature.signatureLeaf) != nil
  }

  /// Whether the instruction is one for the guest, if only by another meaning of its bytes.
  func contains(_ instruction: Instruction) -> Bool {
    if contains(instruction.feature) || isOlderInstruction(instruction) { return true }
    return hasHypercalls && (instruction.operation == .vmmcall || instruction.operation == .vmcall)
  }

  func contains(_ feature: Feature) -> Bool { bits >> UInt64(feature.rawValue) & 1 != 0 }

  /// LZCNT and TZCNT are BSR and BSF, with a prefix that means nothing, to a processor without them.
  private func isOlderInstruction(_ instruction: Instruction) -> Bool {
    instruction.encoding == .legacy && instruction.opcodeMap == Instruction.OpcodeMap.escape0F
      && (instruction.opcode == 0xbc || instruction.opcode == 0xbd)
  }

  private static func isAnnounced(_ feature: Feature, _ table: CPUIDTable) -> Bool {
    switch feature {
    case .base: true
    case .x87: table.has(.fpu)
    case .cx8: table.has(.cx8)
    case .cx16: table.has(.cx16)
    case .fxsr: table.has(.fxsr)
    case .mmx: table.has(.mmx)
    case .mmxext, .sse: table.has(.sse)
    case .sse2: table.has(.sse2)
    case .sse3: table.has(.pni)
    case .ssse3: table.has(.ssse3)
    case .sse41: table.has(.sse4_1)
    case .sse42: table.has(.sse4_2)
    case .popcnt: table.has(.popcnt)
    case .lzcnt: table.has(.abm)
    case .bmi1: table.has(.bmi1)
    case .bmi2: table.has(.bmi2)
    case .movbe: table.has(.movbe)
    case .adx: table.has(.adx)
    case .aes: table.has(.aes)
    case .pclmul: table.has(.pclmulqdq)
    case .rdrand: table.has(.rdrand)
    case .avx: table.has(.avx)
    case .avx2: table.has(.avx2)
    case .f16c: table.has(.f16c)
    case .fma: table.has(.fma)
    case .xsave: table.has(.xsave)
    case .xsaveopt: table.has(.xsaveopt)
    case .clflush: table.has(.clflush)
    case .clflushopt: table.has(.clflushopt)
    // With long mode, AMD's processors have PREFETCHW (AMD64 APM vol. 3, "PREFETCH").
    case .prefetchw: true
    case .fsgsbase: table.has(.fsgsbase)
    case .rdtscp: table.has(.rdtscp)
    case .smap: table.has(.smap)
    case .rdpid: table.has(.rdpid)
    case .invpcid: table.has(.invpcid)
    case .pku: table.has(.pku)
    case .sse4a, .sha, .rdseed, .vaes, .vpclmul, .gfni, .xsavec, .xsaves, .clwb, .monitor,
      .monitorx, .clzero, .invlpgb, .svm, .vmx, .cet, .smx, .sgx, .rtm, .movdir, .keyLocker, .threeDNow, .xop, .evex,
      .other:
      false
    }
  }
}
