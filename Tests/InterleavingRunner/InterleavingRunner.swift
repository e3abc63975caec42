// Several processors on one thread at a time, in orders that seeds determine: for as many seeds as one likes.

import TrivisorInterleaving
import Glibc
import TrivisorProcessStart

@main
struct InterleavingRunner {
  private static let usage = """
    Usage: trivisor-interleavings [--from N] [--seeds N] [--show] [--tell] [--twice]

      --from N   the first seed (default: 1)
      --seeds N  how many (default: 1000)
      --show     print what the first seed's processors do, and end
      --tell     print each change of who goes on
      --twice    run each seed twice, and look whether it went the same way

    Ends with 0 if everything was as it must be, 1 if something was not, 64 on a wrong option, 125 if its output can't be written.
    """

  static func main() {
    var values: [String: UInt64] = ["--from": 1, "--seeds": 1000]
    var flags: Set<String> = []
    var arguments = ProcessStart.arguments.dropFirst()
    while let argument = arguments.popFirst() {
      if ["--show", "--tell", "--twice"].contains(argument) {
        flags.insert(argument)
      } else if values[argument] != nil, let text = arguments.popFirst(), let value = UInt64(text) {
        values[argument] = value
      } else {
        print(usage)
        ProcessStart.end(argument == "--help" ? 0 : 64)
      }
    }
    guard let from = values["--from"], let count = values["--seeds"] else { exit(64) }
    if flags.contains("--show") {
      print(Interleaving(seed: from).description)
      ProcessStart.end(0)
    }
    do {
      try Interleaving.prepare()
      ProcessStart.end(try run(from, count, flags) ? 0 : 1)
    } catch {
      print("trivisor-interleavings: \(error)")
      ProcessStart.end(1)
    }
  }

  private static func run(_ from: UInt64, _ count: UInt64, _ flags: Set<String>) throws -> Bool {
    var total = Interleaving.Result()
    var failures = 0
    var seed = from
    while seed < from &+ count, failures < 10 {
      let interleaving = Interleaving(seed: seed)
      var result = try interleaving.run(isTold: flags.contains("--tell"))
      if flags.contains("--twice"), !result.isStuck {
        let again = try interleaving.run()
        if again.fingerprint != result.fingerprint { result.faults.append("the second time it went another way") }
      }
      if !result.faults.isEmpty {
        failures += 1
        for fault in result.faults.prefix(5) { print("seed \(seed): \(fault)") }
        fflush(nil)
        if result.isStuck {
          print("ended at seed \(seed): its processors can't go on")
          return false
        }
      }
      total.changes += result.changes
      total.interruptions += result.interruptions
      total.notes += result.notes
      total.worldStops += result.worldStops
      total.blocksDropped += result.blocksDropped
      seed += 1
    }
    print(
      """
      \(seed - from) seeds, \(failures) failed: \(total.notes) values judged, \(total.changes) changes of who goes on, \
      \(total.interruptions) between two instructions of translated code, \(total.worldStops) world stops, \
      \(total.blocksDropped) blocks dropped
      """)
    return failures == 0
  }
}
