import Conformance
import Testing

@testable import RewritingTechnique

/// The conformance suite, as far as the engine goes.
struct RewritingConformanceTests {
  /// What these need is not there: second processors, and processor features that CPUID does not announce under this
  /// technique.
  private static let absent: Set<String> = [
  ]

  private static func needsProcessors(_ conformanceCase: ConformanceCase) -> Bool {
    conformanceCase.name.hasPrefix("startup-")
  }

  private static let cases = ConformanceSuite.cases.filter {
    !absent.contains($0.name) && !needsProcessors($0)
  }

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
    #expect(passed >= 304)
  }
}
