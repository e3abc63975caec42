import TrivisorConformance
import TrivisorParavirtTechnique
import Testing
import TrivisorVMM

private let suite = ConformanceSuite(technique: ParavirtTechnique())

@Suite("Conformance: paravirtual", .serialized)
struct ParavirtConformanceTests {
  @Test("user code in a domain behaves as the manual says")
  func conforms() {
    var refusals: [DomainRefusal: Int] = [:]
    var passed = 0
    for conformanceCase in ConformanceSuite.cases {
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
