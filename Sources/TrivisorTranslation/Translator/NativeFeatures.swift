// What the host's processor must have for the engine, and for guests.

import TrivisorVMM

/// Processor features that are the host's: the engine hands the bytes of their instructions on, or needs them itself.
///
/// What is not here is software: the local APIC, paging and its protections, XSAVE and its areas, RDRAND, RDTSCP, system
/// calls. The features of the x86-64 baseline are no matter of a host that runs this program.
package enum NativeFeatures {
  /// Guests have them only where the host has them. An invariant time stamp counter is one of them, since RDTSC gives the
  /// host's counter.
  package static let all: Set<ProcessorFeature> = [
    .pni, .pclmulqdq, .ssse3, .fma, .cx16, .sse4_1, .sse4_2, .movbe, .popcnt, .aes, .avx, .f16c, .bmi1, .avx2, .bmi2,
    .adx, .clflushopt, .lahf_lm, .abm, .nonstop_tsc,
  ]

  /// Translated code keeps flags by LAHF and compares tags by RORX; its vector registers are stored and loaded by AVX.
  private static let neededByEngine: [ProcessorFeature] = [.avx2, .bmi2, .lahf_lm]

  /// What guests are told: of the model and what goes with it, or of the highest one where it is `host`, all but what is missing here.
  package static func announced(_ model: ProcessorModel, on host: HostProcessor) -> Set<ProcessorFeature> {
    (model.isHost ? ProcessorModel.x86_64v3.features : model.features).union(model.companions).filter { feature in
      !all.contains(feature) || host.has(feature)
    }
  }

  /// What the engine can't do without and this host doesn't have.
  package static func lackingForEngine(of host: HostProcessor) -> [ProcessorFeature] {
    neededByEngine.filter { !host.has($0) }
  }
}
