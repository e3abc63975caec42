import Testing

@testable import TrivisorVMM

@Suite("The host's processor")
struct HostProcessorTests {
  /// A processor that announces everything.
  private func processor(
    vendor: (ebx: UInt32, edx: UInt32, ecx: UInt32) = (0x756e_6547, 0x4965_6e69, 0x6c65_746e),
    last: UInt32 = 0xd, isEnabled: Bool = true, extendedControl: UInt64 = 7, hasSegmentBases: Bool = true
  ) -> HostProcessor {
    HostProcessor { function, index in
      switch function {
      case 0: CPUIDLeaf(0, eax: last, ebx: vendor.ebx, ecx: vendor.ecx, edx: vendor.edx)
      case 0x8000_0000: CPUIDLeaf(function, eax: 0x8000_0021)
      case 1: CPUIDLeaf(1, ebx: .max, ecx: isEnabled ? .max : ~(1 << 27), edx: .max)
      default: CPUIDLeaf(function, eax: .max, ebx: .max, ecx: .max, edx: .max)
      }
    } extendedControl: {
      extendedControl
    } hasSegmentBases: {
      hasSegmentBases
    }
  }

  @Test("the vendor is known by its name; Hygon's processors are AMD's")
  func vendors() {
    #expect(processor().vendor == .intel)
    #expect(processor(vendor: (0x6874_7541, 0x6974_6e65, 0x444d_4163)).vendor == .amd)
    #expect(processor(vendor: (0x6f67_7948, 0x6e65_476e, 0x656e_6975)).vendor == .amd)
    #expect(processor(vendor: (0x746e_6543, 0x4872_7561, 0x736c_7561)).vendor == .other("CentaurHauls"))
  }

  @Test("what CPUID shows and the system has enabled can be used")
  func everything() {
    let host = processor()
    #expect(ProcessorFeature.allCases.allSatisfy(host.has))
  }

  @Test("functions beyond the last one say nothing")
  func lastFunction() {
    let host = processor(last: 1)
    #expect(host.has(.avx) && !host.has(.avx2) && !host.has(.bmi2) && !host.has(.xsaveopt) && host.has(.abm))
  }

  @Test("AVX is there only where the system has enabled its state")
  func enabledState() {
    let withoutAVX = processor(extendedControl: 3)
    #expect(!withoutAVX.has(.avx) && !withoutAVX.has(.avx2) && !withoutAVX.has(.fma) && !withoutAVX.has(.f16c))
    #expect(withoutAVX.has(.xsave) && withoutAVX.has(.bmi2))
    let withoutXSAVE = processor(isEnabled: false)
    #expect(!withoutXSAVE.has(.avx) && !withoutXSAVE.has(.xsave) && withoutXSAVE.has(.sse4_2))
  }

  @Test("RDFSBASE is the system's to allow")
  func segmentBases() { #expect(!processor(hasSegmentBases: false).has(.fsgsbase)) }

  @Test("this host has what this program needs of any")
  func thisHost() {
    for feature in [ProcessorFeature.fpu, .cx8, .cmov, .mmx, .fxsr, .sse, .sse2, .syscall, .lm] {
      #expect(HostProcessor.current.has(feature), "\(feature)")
    }
  }
}
