// Says what an exit of each kind costs in steady state under the rewriting technique, in allocations and in sleeps, and ends
// with 1 if one costs anything. Only an optimised build is a measure: what the compiler leaves on the heap without
// optimisation is its own affair.

import TrivisorProcessStart
import TrivisorSteady

@main
enum SteadyRunner {
  static func main() throws {
    var isRight = true
    for code in SteadyCode.all {
      let result = try SteadyMachine().run(code)
      let total = result.allocations.reduce(0, &+)
      let verdict =
        result.problem
        ?? "\(total) allocations, \(result.sleeps) sleeps in \(result.allocations.count) rounds"
      let isSteady = result.problem == nil && total == 0 && (code.sleeps || result.sleeps == 0)
      print("\(isSteady ? "ok" : "not ok") \(code.is64Bit ? "long mode" : "real mode"): \(code.name): \(verdict)")
      isRight = isRight && isSteady
    }
    ProcessStart.end(isRight ? 0 : 1)
  }
}
