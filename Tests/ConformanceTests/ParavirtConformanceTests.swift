import TrivisorConformance
import TrivisorParavirtTechnique
import Testing
import TrivisorVMM

@Suite("Conformance: paravirtual", .serialized)
struct ParavirtConformanceTests {
  /// KVM's signature and hypercalls are a machine's; a domain's processor, which is the model's when it is translated, has neither.
  private static let machines: Set<String> = ["cpuid-hypervisor-user", "promises-hypercalls-user"]

  @Test("user code in a domain behaves as the manual says, natively and translated", arguments: [false, true])
  func conforms(isTranslated: Bool) {
    let suite = ConformanceSuite(technique: ParavirtTechnique(translatesAll: isTranslated))
    var refusals: [DomainRefusal: Int] = [:]
    var passed = 0
    for conformanceCase in ConformanceSuite.cases where !isTranslated || !Self.machines.contains(conformanceCase.name) {
      switch suite.run(conformanceCase) {
      case .passed: passed += 1
      case .refused(let refusal): refusals[refusal, default: 0] += 1
      case .failed(let message):
        Issue.record("\(conformanceCase.name) (\(conformanceCase.summary)):\n\(message)")
      case .skipped, .knownDefect: Issue.record("\(conformanceCase.name): nothing is skipped in a domain")
      }
    }
    // Only what a domain can't have is refused.
    #expect(passed >= 40 || refusals[.lowAddresses] ?? 0 > 0, "\(passed) passed; \(refusals)")
  }
}
