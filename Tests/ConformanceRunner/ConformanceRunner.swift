// Runs the conformance suite and prints TAP (version 13, testanything.org), for places without a test harness: the
// inside of a virtual machine, a bug report.

import TrivisorConformance
import Glibc
import TrivisorHardwareTechnique
import TrivisorParavirtTechnique
import TrivisorProcessStart
import TrivisorRewritingTechnique
import TrivisorVMM

@main
struct ConformanceRunner {
  private static let usage = """
    Usage: trivisor-conformance [--technique hardware|rewriting|paravirtual] [--filter TEXT | --case NAME] [--expendable-host | --force]
                                [--interrupt-chips auto|kernel|software] [--idle-processors N] [--list]

      --technique NAME  under which technique the guests run (default: hardware)
      --filter TEXT     only cases whose name contains TEXT
      --case NAME       only the case of that name
      --expendable-host run also what may end or change this host; known defects are told as such
      --force           the same, and excuse nothing
      --interrupt-chips PLACE
                        where the machines have their interrupt controllers and timers
      --idle-processors N
                        how many processors each machine has that nobody starts
      --list            print the cases and end

    Prints TAP. Ends with 0 if nothing failed, 1 if something did, 64 on a wrong option, 125 if its output can't be written.
    """

  static func main() {
    var techniqueName = TechniqueName.hardware
    var filter = ""
    var name: String?
    var caution = ConformanceSuite.Caution.careful
    var isListing = false
    var interruptChips = InterruptChips.automatic
    var idleProcessors = 0
    var arguments = ProcessStart.arguments.dropFirst()
    while let argument = arguments.popFirst() {
      switch argument {
      case "--technique":
        guard let name = arguments.popFirst().flatMap(TechniqueName.init) else { refuse() }
        techniqueName = name
      case "--filter":
        guard let text = arguments.popFirst() else { refuse() }
        filter = text
      case "--case":
        guard let text = arguments.popFirst() else { refuse() }
        name = text
      case "--interrupt-chips":
        guard let place = arguments.popFirst().flatMap(InterruptChips.init) else { refuse() }
        interruptChips = place
      case "--idle-processors":
        guard let count = arguments.popFirst().flatMap({ Int($0) }), 0...14 ~= count else { refuse() }
        idleProcessors = count
      case "--expendable-host": caution = .expendableHost
      case "--force": caution = .none
      case "--list": isListing = true
      case "--help", "-h":
        print(usage)
        ProcessStart.end(0)
      default: refuse()
      }
    }
    let cases = ConformanceSuite.cases.filter { conformanceCase in
      (filter.isEmpty || conformanceCase.name.contains(filter)) && (name == nil || conformanceCase.name == name)
    }
    if let name, cases.isEmpty {
      complain("trivisor-conformance: there is no case \(name); --list prints all")
      exit(64)
    }
    if isListing {
      for conformanceCase in cases { print("\(conformanceCase.name): \(conformanceCase.summary)") }
      ProcessStart.end(0)
    }
    let technique: any Technique
    switch techniqueName {
    case .hardware: technique = HardwareTechnique()
    case .rewriting: technique = RewritingTechnique()
    case .paravirtual: technique = ParavirtTechnique()
    }
    let suite = ConformanceSuite(technique: technique, interruptChips: interruptChips, idleProcessors: idleProcessors)
    ProcessStart.end(run(cases, by: suite, under: technique, caution: caution) ? 0 : 1)
  }

  /// Whether nothing failed.
  private static func run(
    _ cases: [ConformanceCase], by suite: ConformanceSuite, under technique: any Technique,
    caution: ConformanceSuite.Caution
  ) -> Bool {
    if case .unavailable(let reason, let remedy) = technique.probe() {
      print("Bail out! \(reason); \(remedy)")
      return false
    }
    print("TAP version 13")
    print("1..\(cases.count)")
    print("# technique \(technique.name.rawValue), host kind \(suite.host.rawValue)")
    var (failures, skips, defects) = (0, 0, 0)
    var refusals: [DomainRefusal: Int] = [:]
    for (number, conformanceCase) in cases.enumerated() {
      let label = "\(number + 1) - \(conformanceCase.name)"
      switch suite.run(conformanceCase, caution: caution) {
      case .passed: print("ok \(label)")
      case .knownDefect(let ability):
        defects += 1
        print("not ok \(label) # TODO \(ability.rawValue), a known defect of this host")
      case .skipped(let ability):
        skips += 1
        print("ok \(label) # SKIP \(ability.rawValue)")
      case .refused(let refusal):
        refusals[refusal, default: 0] += 1
        print("ok \(label) # SKIP a domain has no such \(refusal.rawValue)")
      case .failed(let message):
        failures += 1
        print("not ok \(label)")
        print("# \(conformanceCase.summary)")
        for line in message.split(separator: "\n") { print("# \(line)") }
      }
      // Line by line, also into a pipe: a run that hangs must show where.
      fflush(nil)
    }
    let refused = refusals.values.reduce(0, +)
    let passed = cases.count - failures - skips - defects - refused
    print("# \(passed) passed, \(failures) failed, \(defects) known defects, \(skips) skipped")
    for (refusal, count) in refusals.sorted(by: { $0.key.rawValue < $1.key.rawValue }) {
      print("# \(count) refused in a domain: \(refusal.rawValue)")
    }
    return failures == 0
  }

  private static func refuse() -> Never {
    complain(usage)
    exit(64)
  }

  private static func complain(_ text: String) {
    let line = text + "\n"
    line.utf8CString.withUnsafeBytes { bytes in _ = write(2, bytes.baseAddress, bytes.count - 1) }
  }
}
