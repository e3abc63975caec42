import Testing
import TrivisorVMM

@testable import TrivisorXenDomain

/// A domain that asks the hypervisor for CPUID is told nothing that it can't have.
struct DomainIdentificationTests {
  private func told(_ feature: ProcessorFeature) -> Bool {
    let place = feature.location
    let words = DomainIdentification.shown(place.function, place.index, (.max, .max, .max, .max))
    let word = [words.0, words.1, words.2, words.3][place.register.rawValue]
    return word >> UInt32(place.bit) & 1 != 0
  }

  @Test("what needs a privileged instruction, register or page-table bit is left out")
  func hidden() {
    let hidden: [ProcessorFeature] = [
      .vme, .pse, .pse36, .pge, .mce, .mca, .mtrr, .x2apic, .tsc_deadline_timer, .smep, .smap, .pdpe1gb,
    ]
    for feature in hidden { #expect(!told(feature), "\(feature)") }
    let extended = DomainIdentification.shown(7, 0, (.max, .max, .max, .max))
    // Protection keys, and that they are on.
    #expect(extended.2 & 0x18 == 0)
    #expect(DomainIdentification.shown(0xa, 0, (1, 2, 3, 4)) == (0, 0, 0, 0))
  }

  @Test("what user code executes is the host's")
  func native() {
    let native: [ProcessorFeature] = [
      .fpu, .cx8, .cmov, .mmx, .fxsr, .sse, .sse2, .pni, .ssse3, .sse4_1, .sse4_2, .popcnt, .movbe, .aes, .pclmulqdq,
      .fma, .f16c, .avx, .avx2, .bmi1, .bmi2, .adx, .clflushopt, .rdrand, .fsgsbase, .xsave, .xsaveopt, .lahf_lm, .abm,
      .syscall, .nx, .lm, .rdtscp, .hypervisor,
    ]
    for feature in native { #expect(told(feature), "\(feature)") }
    // A hypervisor is there on any host.
    #expect(DomainIdentification.shown(1, 0, (0, 0, 0, 0)).2 == 1 << 31)
    #expect(DomainIdentification.shown(0x8000_0002, 0, (1, 2, 3, 4)) == (1, 2, 3, 4))
  }
}
