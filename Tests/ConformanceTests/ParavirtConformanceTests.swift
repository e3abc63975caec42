import TrivisorConformance
import TrivisorParavirtTechnique
import Testing
import TrivisorVMM

@Suite("Conformance: paravirtual", .serialized)
struct ParavirtConformanceTests {
  @Test("user code in a domain behaves as the manual says, natively and translated", arguments: [false, true])
  func conforms(isTranslated: Bool) {
    let suite = ConformanceSuite(
      technique: ParavirtTechnique(translatesAll: isTranslated), isTranslated: isTranslated)
    var refusals: [DomainRefusal: Int] = [:]
    var defects: [String] = []
    var passed = 0
    for conformanceCase in ConformanceSuite.cases {
      switch suite.run(conformanceCase) {
      case .passed: passed += 1
      case .refused(let refusal): refusals[refusal, default: 0] += 1
      case .failed(let message):
        Issue.record("\(conformanceCase.name) (\(conformanceCase.summary)):\n\(message)")
      case .knownDefect: defects.append(conformanceCase.name)
      case .skipped: Issue.record("\(conformanceCase.name): nothing is skipped in a domain")
      }
    }
    guard refusals[.lowAddresses] ?? 0 == 0 else { return }
    // Only what a domain can't have is refused, and only what its processor's vendor decides is otherwise.
    #expect(passed + defects.count >= 45, "\(passed) passed; \(refusals)")
    if let expected = suite.host.expectedDefects() { #expect(defects.count == expected, "\(defects)") }
  }
}
