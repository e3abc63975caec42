import TrivisorConformance
import Testing

@testable import TrivisorRewritingTechnique
@testable import TrivisorTranslation

/// The conformance suite, as far as the engine goes.
struct RewritingConformanceTests {
  /// All but those that need a second processor.
  private static let cases = ConformanceSuite.cases.filter { !$0.name.hasPrefix("startup-") }

  @Test("a guest runs as the manual says, or is refused by name", arguments: cases)
  func passesOrIsRefused(_ conformanceCase: ConformanceCase) {
    let verdict = ConformanceSuite(technique: RewritingTechnique(), timeLimit: 2000).run(conformanceCase)
    if case .failed(let message) = verdict {
      #expect(message.contains("is not translated yet"), "\(message)")
    }
  }

  @Test("no case is lost that once passed")
  func count() {
    let suite = ConformanceSuite(technique: RewritingTechnique(), timeLimit: 2000)
    let passed = Self.cases.count { suite.run($0) == .passed }
    #expect(passed >= 396)
  }
}
