import TrivisorSteady
import Testing

/// What it allocates `tools/check-steady` says, of an optimised build.
@Test("the code that is to be steady comes to its end", arguments: SteadyCode.all.map(\.name))
func steadyCode(name: String) throws {
  for code in SteadyCode.all where code.name == name {
    #expect(try SteadyMachine().run(code).problem == nil)
  }
}
