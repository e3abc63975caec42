// The differential tester's command: translated code against the host's processor, for as many cases as one likes.

import TrivisorDifferential
import Glibc
import TrivisorProcessStart

@main
struct DifferentialRunner {
  private static let usage = """
    Usage: trivisor-differential [--seed N] [--from N] [--cases N] [--failures N] [--shared] [--table] [--show]

      --seed N      which sequence of cases (default: 1)
      --from N      the first case of it (default: 0)
      --cases N     how many (default: 100000)
      --failures N  end after so many mismatches (default: 10)
      --shared      code as it is written where there are several processors
      --show        print the first case and end
      --table       print the executions of each kind of instruction

    Ends with 0 if nothing differed, 1 if something did, 64 on a wrong option, 125 if its output can't be written.
    """

  static func main() {
    var values: [String: UInt64] = ["--seed": 1, "--from": 0, "--cases": 100_000, "--failures": 10]
    var printsTable = false
    var shows = false
    var isShared = false
    var arguments = ProcessStart.arguments.dropFirst()
    while let argument = arguments.popFirst() {
      if argument == "--table" {
        printsTable = true
      } else if argument == "--show" {
        shows = true
      } else if argument == "--shared" {
        isShared = true
      } else if values[argument] != nil, let text = arguments.popFirst(), let value = UInt64(text) {
        values[argument] = value
      } else {
        print(usage)
        ProcessStart.end(argument == "--help" ? 0 : 64)
      }
    }
    guard let seed = values["--seed"], let from = values["--from"], let cases = values["--cases"],
      let limit = values["--failures"]
    else { exit(64) }
    do {
      let tester = try DifferentialTester(seed: seed, isShared: isShared)
      if shows {
        print(tester.show(seed: seed, index: from))
        ProcessStart.end(0)
      }
      ProcessStart.end(run(tester, seed, from, cases, limit, printsTable) ? 0 : 1)
    } catch {
      print("trivisor-differential: \(error)")
      ProcessStart.end(1)
    }
  }

  private static func run(
    _ tester: DifferentialTester, _ seed: UInt64, _ from: UInt64, _ cases: UInt64, _ limit: UInt64, _ printsTable: Bool
  ) -> Bool {
    var failures: UInt64 = 0
    var index = from
    while index < from &+ cases, failures < limit {
      if case .different(let differences) = tester.run(seed: seed, index: index) {
        failures += 1
        fflush(nil)
        print("case \(index) of seed \(seed): \(differences.joined(separator: "; "))")
        print(tester.shrink(seed: seed, index: index))
      }
      index += 1
    }
    print(tester.report(printsTable: printsTable))
    return failures == 0
  }
}
