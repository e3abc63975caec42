// Random hypercalls of both widths, for as many as one likes. A trap ends the process; the last line says after how many calls and with
// which seed, so that it can be had again.
//
//     trivisor-fuzz-hypercalls CALLS [SEED]

import Glibc
import TrivisorHypercallFuzz
import TrivisorVMM

@main
struct HypercallFuzzRunner {
  /// How often it tells how far it is, in calls.
  private static let reportInterval = 1_000_000
  /// A call that takes longer hangs, in seconds; the alarm ends the process.
  private static let patience: UInt32 = 60
  /// In KiB: what the process may grow by after its first million calls.
  private static let growthLimit = 64 << 10

  static func main() {
    let arguments = CommandLine.arguments
    guard arguments.count >= 2, let calls = Int(arguments[1]) else {
      print("use: trivisor-fuzz-hypercalls CALLS [SEED]")
      exit(64)
    }
    let seed = arguments.count > 2 ? UInt64(arguments[2]) ?? 1 : monotonicNanoseconds()
    tell("seed \(seed)")
    do {
      var sequences = [
        try HypercallSequence(is64Bit: true, seed: seed), try HypercallSequence(is64Bit: false, seed: ~seed),
      ]
      var first: Int?
      for call in 1...max(1, calls) {
        try sequences[call & 1].next()
        if call % 1000 == 0 { alarm(patience) }
        guard call % reportInterval == 0 || call == calls else { continue }
        let (size, domains) = (residentSize(), sequences.reduce(0) { $0 + $1.domainCount })
        tell("\(call) calls, \(domains) domains, \(size) KiB resident")
        first = first ?? size
        guard size <= (first ?? size) + growthLimit else {
          print("memory leaks")
          exit(1)
        }
      }
      for sequence in sequences { try sequence.check() }
      print("no finding")
    } catch {
      print("\(error)")
      exit(1)
    }
  }

  /// At once, also into a file: the last line counts when the process dies.
  private static func tell(_ line: String) {
    print(line)
    fflush(nil)
  }

  /// The most that it has been, in KiB.
  private static func residentSize() -> Int {
    var usage = rusage()
    getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    return usage.ru_maxrss
  }
}
