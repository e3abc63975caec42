import ArgumentParser
import TrivisorPlatform
import TrivisorVMM

/// `trivisor doctor`.
struct DoctorCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "doctor",
    abstract: "Say what this host offers for each technique, and which one 'auto' takes.",
    discussion: """
      Exits with 0 when at least one technique can run here, else with 125.

        trivisor doctor
        trivisor doctor --json | python3 -m json.tool
      """)

  @Flag(help: "Print JSON instead of text.")
  var json = false

  func run() throws {
    let reports = TechniqueName.allCases.map { TechniqueReport($0, in: techniques) }
    let automatic: AutomaticReport
    do throws(NoTechnique) {
      let choice = try techniques.choose(.automatic)
      automatic = AutomaticReport(technique: choice.technique.name.rawValue, reason: choice.reason.forCommandLine)
    } catch {
      automatic = AutomaticReport(technique: nil, reason: error.sentence.forCommandLine)
    }
    if json {
      Diagnostics.print(try JSONText.of(DoctorReport(techniques: reports, automatic: automatic)))
    } else {
      for report in reports { report.print() }
      Diagnostics.tell("auto takes: \(automatic.technique ?? "none") (\(automatic.reason))")
    }
    if automatic.technique == nil { throw ExitCode(ExitStatus.failed.rawValue) }
  }
}

/// What `doctor --json` prints.
struct DoctorReport: Encodable {
  /// Raised when a member changes its meaning or goes.
  let schemaVersion = 1
  let techniques: [TechniqueReport]
  let automatic: AutomaticReport
}

/// What `auto` takes here.
struct AutomaticReport: Encodable {
  let technique: String?
  let reason: String
}

/// One technique on this host.
struct TechniqueReport: Encodable {
  let technique: String
  let available: Bool
  let reason: String?
  let remedy: String?
  /// How well guest kernel code runs, where this host disappoints.
  let caution: String?
  let notes: [String]
  /// Features of the default processor model that guests don't see here.
  let missingFeatures: [String]

  init(_ name: TechniqueName, in selection: TechniqueSelection) {
    technique = name.rawValue
    guard let implementation = selection.techniques.first(where: { $0.name == name }) else {
      (available, reason, remedy, caution) = (false, "not in this version", nil, nil)
      (notes, missingFeatures) = ([], [])
      return
    }
    switch implementation.rehearse() {
    case .unavailable(let reason, let remedy):
      (available, self.reason, self.remedy, caution) = (false, reason, remedy.forCommandLine, nil)
      (notes, missingFeatures) = ([], [])
    case .available(let notes):
      (available, reason, remedy) = (true, nil, nil)
      caution = implementation.caution()
      self.notes = notes
      missingFeatures = implementation.reductions(for: MachineConfiguration()).map(\.rawValue)
    }
  }

  func print() {
    Diagnostics.tell("\(technique): \(available ? "available" : "unavailable")")
    if let reason { Diagnostics.tell("  why: \(reason)") }
    if let remedy, !remedy.isEmpty { Diagnostics.tell("  to do: \(remedy)") }
    if let caution { Diagnostics.tell("  caution: \(caution)") }
    for note in notes { Diagnostics.tell("  \(note)") }
    if !missingFeatures.isEmpty {
      Diagnostics.tell("  guests don't see of x86-64-v3: \(missingFeatures.joined(separator: " "))")
    }
  }
}
