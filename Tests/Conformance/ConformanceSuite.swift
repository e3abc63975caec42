// The suite: every case, and how one is judged.

import TrivisorVMM

/// All cases, and their runner.
public struct ConformanceSuite: Sendable {
  private let technique: any Technique
  private let timeLimit: Int
  private let interruptChips: InterruptChips
  private let idleProcessors: Int
  /// What this technique runs on here.
  public let host: HostKind
  /// What is missing whatever the host.
  private let lacking: Set<Ability>

  /// What machines under KVM lack if their interrupt chips are in software.
  public static let lackingWithSoftwareChips: Set<Ability> = [.extendedLocalAPIC, .severalProcessors]

  /// - Parameters:
  ///   - timeLimit: milliseconds for one case; a guest that takes longer has failed.
  ///   - interruptChips: where the machines have theirs.
  ///   - idleProcessors: how many each machine has that no case asks for: they wait to be started. An engine may do otherwise where it
  ///     knows that there are several.
  ///   - isTranslated: whether the technique translates all domains.
  public init(
    technique: any Technique, timeLimit: Int = 10_000, interruptChips: InterruptChips = .automatic,
    idleProcessors: Int = 0, isTranslated: Bool = false
  ) {
    self.technique = technique
    self.idleProcessors = idleProcessors
    self.interruptChips = interruptChips
    lacking = technique.name == .hardware && interruptChips == .software ? Self.lackingWithSoftwareChips : []
    self.timeLimit = timeLimit
    host = HostKind(for: technique, isTranslated: isTranslated)
  }

  /// Every case, in the order of reading: ports first, start-up last.
  public static let cases: [ConformanceCase] = [
    portCases, deviceMemoryCases, exceptionCases, pageFaultCases, processorCases, privilegeCases, repeatedCases,
    interruptCases, floatingCases, floatingPointerCases, legacyCases, modeCases, pagingCases, addressCases,
    promiseCases, contextCases, protectionKeyCases, debugCases,
    steppingCases, steppingRealCases, taskCases, virtual8086Cases, memoryCases, returnCases, stateCases, startupCases,
  ].flatMap { $0 }.map { conformanceCase in
    conformanceCase.with { $0.needs = Ability.needed(by: conformanceCase.name) }
  }

  /// The first ability that a case needs and without which it must not run here.
  public func obstacle(for conformanceCase: ConformanceCase) -> Ability? {
    conformanceCase.needs.intersection(host.lacking().subtracting(host.defects()).union(lacking)).min()
  }

  /// What a run does about cases that this host is known not to allow.
  public enum Caution: Sendable {
    /// Those that would harm the host are skipped; those that only fail are told as known defects.
    case careful
    /// All run, and those that fail are told as known defects: for a host that nothing else needs afterwards.
    case expendableHost
    /// All run, and nothing is excused.
    case none
  }

  /// Runs one case.
  public func run(_ conformanceCase: ConformanceCase, caution: Caution = .careful) -> ConformanceVerdict {
    if technique.handoverKind == .xenDomain { return excuse(runInDomain(conformanceCase), conformanceCase, caution) }
    if caution == .careful, let ability = obstacle(for: conformanceCase) { return .skipped(ability) }
    return excuse(judge(conformanceCase), conformanceCase, caution)
  }

  private func excuse(
    _ verdict: ConformanceVerdict, _ conformanceCase: ConformanceCase, _ caution: Caution
  ) -> ConformanceVerdict {
    let excuses =
      switch caution {
      case .careful: host.defects()
      case .expendableHost: host.lacking()
      case .none: Set<Ability>()
      }
    if case .failed = verdict, let defect = conformanceCase.needs.intersection(excuses).min() {
      return .knownDefect(defect)
    }
    return verdict
  }

  private func runInDomain(_ conformanceCase: ConformanceCase) -> ConformanceVerdict {
    if let refusal = conformanceCase.domainRefusal { return .refused(refusal) }
    guard DomainCaseMachine.mayHaveMemory(at: Layout.guest) else { return .refused(.lowAddresses) }
    do {
      let machine = try DomainCaseMachine(conformanceCase, under: technique)
      switch try machine.run(under: technique, timeLimit: timeLimit) {
      case .refused(let refusal): return .refused(refusal)
      case .failed(let reason): return .failed(reason)
      case .finished(let observation):
        let findings = compare(conformanceCase, observation)
        return findings.isEmpty ? .passed : .failed(findings.joined(separator: "\n"))
      }
    } catch {
      return .failed("\(error)")
    }
  }

  private func judge(_ conformanceCase: ConformanceCase) -> ConformanceVerdict {
    do {
      var (observation, findings) = try CaseMachine(
        conformanceCase, interruptChips: interruptChips, idleProcessors: idleProcessors
      ).run(
        under: technique, timeLimit: timeLimit)
      if let observation {
        findings += compare(conformanceCase, observation)
        findings += try conformanceCase.check(observation)
      }
      return findings.isEmpty ? .passed : .failed(findings.joined(separator: "\n"))
    } catch {
      return .failed("\(error)")
    }
  }

  private func compare(_ conformanceCase: ConformanceCase, _ observation: Observation) -> [String] {
    var findings: [String] = []
    if observation.ending != conformanceCase.ending {
      findings.append(
        "expected to end with \(describe(conformanceCase.ending)), got \(describe(observation.ending))")
    }
    if let expected = conformanceCase.results, observation.results != expected {
      findings.append("expected results \(CaseMachine.list(expected)), got \(CaseMachine.list(observation.results))")
    }
    if let journal = conformanceCase.journal {
      let expected = conformanceCase.journalsBytes ? journal.flatMap(\.bytes) : journal
      let got = conformanceCase.journalsBytes ? observation.journal.flatMap(\.bytes) : observation.journal
      if expected != got { findings.append("expected accesses \(expected), got \(got)") }
    }
    return findings
  }

  private func describe(_ ending: ConformanceCase.Ending) -> String {
    guard case .stopped(.crashed(let report)) = ending else { return "\(ending)" }
    let bytes = report.instruction.map { hexadecimal(UInt64($0)) }.joined(separator: " ")
    let place = report.state.map { hexadecimal($0.general.rip) } ?? "?"
    return "a crash: \(report.summary), at \(place): \(bytes)"
  }
}

extension ConformanceVerdict {
  /// Whether it speaks against the technique.
  public var isFailure: Bool {
    if case .failed = self { true } else { false }
  }
}
