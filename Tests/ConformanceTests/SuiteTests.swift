import TrivisorConformance
import Testing
import TrivisorVMM

@Suite("Conformance: the suite itself")
struct SuiteTests {
  @Test("every case has a name of its own and a guest; every guest serves a case")
  func names() {
    let cases = ConformanceSuite.cases
    #expect(Set(cases.map(\.name)).count == cases.count)
    let used = Set(cases.map(\.guest)).union(cases.compactMap(\.companion))
    let handlers: Set = ["handlers_real", "handlers_protected", "handlers_long", "domain_kernel"]
    #expect(used.subtracting(GuestCode.all.keys).sorted() == [])
    #expect(Set(GuestCode.all.keys).subtracting(used).subtracting(handlers).sorted() == [])
  }

  @Test("every ability is needed by a case and missing on some host")
  func abilities() {
    let cases = ConformanceSuite.cases
    let needed = cases.reduce(into: Set<Ability>()) { $0.formUnion($1.needs) }
    let missing = HostKind.allCases.reduce(into: ConformanceSuite.lackingWithSoftwareChips) {
      $0.formUnion($1.lacking(on: .amd).union($1.lacking(on: .intel)))
    }
    #expect(needed == Set(Ability.allCases))
    #expect(missing == Set(Ability.allCases))
    #expect(Ability.casesWithNeeds.subtracting(cases.map(\.name)).sorted() == [])
  }
}
