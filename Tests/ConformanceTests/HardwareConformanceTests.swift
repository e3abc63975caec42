import TrivisorConformance
import Glibc
import TrivisorHardwareTechnique
import Testing
import TrivisorVMM

/// Whether this host lets us use KVM at all; without it the technique has nothing to run on.
private let hasKVM = access("/dev/kvm", R_OK | W_OK) == 0

private let suite = ConformanceSuite(technique: HardwareTechnique())
private let suiteOfSoftwareChips = ConformanceSuite(technique: HardwareTechnique(), interruptChips: .software)

@Suite("Conformance: hardware", .enabled(if: hasKVM), .serialized)
struct HardwareConformanceTests {
  @Test("behaves as the manual says", arguments: ConformanceSuite.cases)
  func conforms(to conformanceCase: ConformanceCase) {
    if case .failed(let message) = suite.run(conformanceCase) {
      Issue.record("\(conformanceCase.name) (\(conformanceCase.summary)):\n\(message)")
    }
  }

  @Test("behaves as the manual says with interrupt chips in software", arguments: ConformanceSuite.cases)
  func conformsWithSoftwareChips(to conformanceCase: ConformanceCase) {
    if case .failed(let message) = suiteOfSoftwareChips.run(conformanceCase) {
      Issue.record("\(conformanceCase.name) (\(conformanceCase.summary)):\n\(message)")
    }
  }

  @Test("skips exactly the cases that this kind of host is known not to allow")
  func skips() {
    let skipped = ConformanceSuite.cases.count { suite.obstacle(for: $0) != nil }
    #expect(skipped == suite.host.expectedSkips, "on a host of kind \(suite.host.rawValue)")
  }
}
