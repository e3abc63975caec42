import ArgumentParser
import TrivisorComparison
import Glibc
import TrivisorGuestProcess
import TrivisorPlatform
import TrivisorVMM

/// `trivisor compare`.
struct CompareCommand: ParsableCommand {
  /// Lines of our own guests that are measurements, or say that there is nothing to measure; of some, further lines.
  private static func ownVariableLines(_ image: String) -> String {
    let measurements = " cycles$|: not here$"
    return switch image {
    // What the techniques make of each instruction is what this one is for, and where they must not agree.
    case "guest:privileged": measurements + "|^(user|kernel|common) "
    // Nanoseconds.
    case "guest:cost": measurements + "|: [0-9]+$"
    default: measurements
    }
  }

  static let configuration = CommandConfiguration(
    commandName: "compare",
    abstract: "Run the same guest under every technique and put the costs side by side.",
    discussion: """
      With the same processor model, memory and devices, in turns, each run in a process of its own. What a technique \
      can't run is said, and why. All must give the same result: end and exit code, and, for guests of Trivisor's own or \
      with --same-output, what they write.

        trivisor compare guest:hello guest:compute --repeat 10
        trivisor compare guest:nanobench             what each operation costs
        trivisor compare vmlinuz --initrd initrd.img --html report.html
        trivisor compare vmlinuz --exec 'uname -r' --same-output

      Ends with 0 if all that ran gave the same result, with 1 if they did not, with 124 if one took longer than --timeout, \
      with 125 if nothing could be run.
      """)

  @Argument(help: "Guests: files, or guest:NAME.", completion: .file())
  var images: [String]

  @Option(
    name: .customLong("techniques"),
    help: ArgumentHelp(
      "Which techniques, with commas between them. Default: all three, but of hardware only guests of Trivisor's own"
        + " where the host's KVM emulates guest kernel code.", valueName: "names"))
  var techniqueNames: String?

  @Option(
    help: ArgumentHelp(
      "Which of them ratios are to. Default: the first that runs as itself: no KVM that emulates.", valueName: "name"))
  var base: String?

  @Option(help: "How many runs under each technique count.")
  var `repeat` = 5

  @Option(help: "How many runs under each come before them and don't count.")
  var warmUp = 1

  @Option(help: "How long a run may take: 30s, 500ms, 5m. Default: 2m.")
  var timeout: TimeLimit?

  @Option(help: ArgumentHelp("A command for Linux guests, as of 'trivisor run'.", valueName: "text"))
  var exec: String?

  @Option(
    help: ArgumentHelp("A folder of the host's as Linux's first root.", valueName: "folder[,rw|,copy|,rw=path]"),
    completion: .directory)
  var root: String?

  @Flag(help: "What the guests write must be the same too.")
  var sameOutput = false

  @Option(help: ArgumentHelp("Lines that may differ: an extended regular expression.", valueName: "pattern"))
  var ignoreLines: String?

  @OptionGroup(title: "Options for the guests, as of 'trivisor run'")
  var options: ForwardedOptions

  @Option(
    help: "Write the report as JSON; - is standard output. With several guests, NAME-1.json and so on.",
    completion: .file(extensions: ["json"]))
  var json: String?

  @Option(
    help: "Write the report as one page for a browser. With several guests, NAME-1.html and so on.",
    completion: .file(extensions: ["html"]))
  var html: String?

  func validate() throws {
    if `repeat` < 1 { throw ValidationError("--repeat: at least one run must count") }
    if warmUp < 0 { throw ValidationError("--warm-up: there is no such number of runs") }
    for name in names where TechniqueName(rawValue: name) == nil {
      throw ValidationError("--techniques: there is no technique '\(name)'; there are hardware, rewriting, paravirtual")
    }
    if names.isEmpty { throw ValidationError("--techniques: name at least one") }
    let listed = techniqueNames?.split(separator: ",", omittingEmptySubsequences: false).map(String.init) ?? []
    for (index, name) in listed.enumerated() where listed[..<index].contains(name) {
      throw ValidationError("--techniques: '\(name)' is given twice: leave one out")
    }
    if listed.contains("") { throw ValidationError("--techniques: a name is missing beside a comma") }
    if let base, !names.contains(base) {
      throw ValidationError("--base: '\(base)' is none of the techniques to compare: \(names.joined(separator: ", "))")
    }
  }

  func run() throws {
    if let root { _ = try RootArgument.root(root) }
    for file in files(json) { try ResultFile.refuseUnwritable(file, option: "--json") }
    for file in files(html) { try ResultFile.refuseUnwritable(file, option: "--html") }
    try ResultFile.refuseSharing([("--json", json), ("--html", html)])
    let isTextWanted = !ResultFile.isStandardOutput(json) && !ResultFile.isStandardOutput(html)
    var status: Int32 = 0
    for (index, image) in images.enumerated() {
      let (comparison, signal) = try compare(image)
      let (host, date) = (HostDescription.this, Moment.now)
      if isTextWanted { Diagnostics.print((index > 0 ? "\n" : "") + text(comparison, host)) }
      if let json {
        try ResultFile.write(
          try ComparisonReport(comparison, host: host, date: date).text(), to: numbered(json, index), option: "--json")
      }
      if let html {
        try ResultFile.write(
          try ComparisonPage.text(comparison, host: host, date: date), to: numbered(html, index), option: "--html")
      }
      if let signal { Diagnostics.end(128 + signal) }
      for difference in comparison.differences { Diagnostics.say("\(image): \(difference)") }
      // The worst of several guests': nothing is known, another result, no result in time.
      if !comparison.differences.isEmpty {
        if status != ExitStatus.failed.rawValue { status = 1 }
      } else if comparison.isOverdue {
        if status == 0 { status = ExitStatus.timedOut.rawValue }
      } else if comparison.ran.isEmpty {
        Diagnostics.say("\(image): no technique could run it")
        status = ExitStatus.failed.rawValue
      }
    }
    Diagnostics.end(status)
  }

  /// What to know of techniques on this host, by name: where its KVM emulates guest kernel code, figures say what that
  /// costs, and not what the processor's own virtualization does.
  private static let cautions: [String: String] = {
    var found: [String: String] = [:]
    for technique in techniques.techniques {
      guard case .available = technique.probe(), let caution = technique.caution() else { continue }
      found[technique.name.rawValue] = caution
    }
    return found
  }()

  /// As words for `trivisor run`.
  private var words: [String] {
    options.words + (exec.map { ["--exec=\($0)"] } ?? []) + (root.map { ["--root=\($0)"] } ?? [])
  }

  private var names: [String] {
    techniqueNames?.split(separator: ",").map(String.init) ?? TechniqueName.allCases.map(\.rawValue)
  }

  private func compare(_ image: String) throws -> (Comparison, Int32?) {
    var plan = ComparisonPlan(image: image, runArguments: [image] + words, techniques: names)
    plan.repetitions = `repeat`
    plan.warmUps = warmUp
    plan.base = base
    if let timeout { plan.timeLimit = timeout.nanoseconds }
    let isOwn = image.hasPrefix("guest:")
    plan.cautions = Self.cautions.filter { names.contains($0.key) }
    // It would take a thousand times as long: for a guest that is more than a few thousand instructions of kernel code
    // nobody wants to wait.
    if techniqueNames == nil, !isOwn {
      for (name, caution) in plan.cautions {
        plan.obstacles[name] = "\(caution); --techniques \(name),… runs it all the same"
      }
    }
    plan.comparesOutput = sameOutput || isOwn
    plan.ignoredLines = ignoreLines ?? (isOwn ? Self.ownVariableLines(image) : nil)
    let session = ComparisonSession(plan)
    let isTerminal = isatty(STDERR_FILENO) != 0
    if isTerminal {
      session.whenRunBegins = { name, number, count in
        Diagnostics.draw("\r\(image): \(name), run \(number) of \(count)\u{1b}[K")
      }
    }
    defer { if isTerminal { Diagnostics.draw("\r\u{1b}[K") } }
    do {
      let (comparison, signal) = try session.run()
      return (comparison, signal)
    } catch let failure as LinePattern.Failure {
      throw Refusal(status: .usage, message: failure.description)
    } catch let failure as ProcessFailure {
      throw Refusal(status: .failed, message: failure.description)
    }
  }

  private func text(_ comparison: Comparison, _ host: HostDescription) -> String {
    var lines = ["\(comparison.plan.image), \(host.processor), Linux \(host.kernel)"]
    if !comparison.ran.isEmpty {
      for (title, rows) in ComparisonText.tables(comparison) {
        lines += ["", title]
        let columns = Set(1..<(rows.map(\.count).max() ?? 1).advanced(by: 1))
        lines += TextTable(rows, rightAligned: columns).lines.map { "  " + $0 }
      }
      lines.append("")
    }
    for technique in comparison.techniques {
      if let obstacle = technique.obstacle {
        lines.append("not run: \(technique.title): \(obstacle)")
      } else if let caution = technique.caution {
        lines.append("of \(technique.title): \(caution)")
      }
    }
    lines += comparison.baseRemarks
    if comparison.ran.count > 1, comparison.differences.isEmpty {
      lines.append("the same result under all that ran")
      lines.append(comparison.headline)
    }
    return lines.joined(separator: "\n")
  }

  private func files(_ name: String?) -> [String] {
    guard let name else { return [] }
    return images.indices.map { numbered(name, $0) }
  }

  /// The file for one of several guests.
  private func numbered(_ name: String, _ index: Int) -> String {
    guard images.count > 1, name != "-" else { return name }
    let start = name.lastIndex(of: "/").map(name.index(after:)) ?? name.startIndex
    guard let dot = name[start...].lastIndex(of: "."), dot > start else { return "\(name)-\(index + 1)" }
    return "\(name[..<dot])-\(index + 1)\(name[dot...])"
  }
}
