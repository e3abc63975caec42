import ArgumentParser
import TrivisorBoot
import TrivisorGuestProcess
import Glibc
import TrivisorDebugger
import SystemPackage
import TrivisorTestRunner
import TrivisorVMM

/// `trivisor test`.
struct TestCommand: ParsableCommand {
  /// Looked for where no image and no manifest is named.
  static let standardManifest = "trivisor-tests.json"

  static let configuration = CommandConfiguration(
    commandName: "test",
    abstract: "Run guests as tests and end with 0 if all passed.",
    discussion: """
      A guest passes if it ends with exit code 0 or switches off within its time; a pattern in its console, test points \
      in the Test Anything Protocol or another end can be asked for. Each runs in a process of its own.

        trivisor test build/*.elf --timeout 10s --jobs 2 --junit results.xml
        trivisor test kernel.elf --expect "^all [0-9]+ passed" --technique rewriting
        trivisor test kernel.elf --tap --memory 512M --cpus 2
        trivisor test vmlinuz --root / --exec "make check"
        trivisor test                   the tests of ./\(standardManifest)

      Ends with 0 if all passed or were skipped, else with the worst of 1 failed, 124 timed out, 126 crashed, 127 could \
      not be loaded, 125 Trivisor failed. TEST_TOTAL_SHARDS and TEST_SHARD_INDEX select a part of the tests, \
      TESTBRIDGE_TEST_ONLY those that --filter would.
      """)

  @Argument(help: "Guests: files, or guest:NAME.", completion: .file())
  var images: [String] = []

  @OptionGroup(title: "Options for the guests, as of 'trivisor run'")
  var options: ForwardedOptions

  @Option(help: "A list of tests as JSON (docs/testing.md).", completion: .file(extensions: ["json"]))
  var manifest: String?

  @Option(
    help: ArgumentHelp(
      "Only tests in whose name this matches, an extended regular expression; given several times, one of them.",
      valueName: "pattern"))
  var filter: [String] = []

  @Flag(help: "Print the names of the tests, one a line, and run none.")
  var list = false

  @Option(
    help: ArgumentHelp(
      "Run this text by the shell of Linux guests; its status is the guest's exit code.", valueName: "text"))
  var exec: String?

  @Option(
    help: ArgumentHelp("A folder of the host's as Linux's first root.", valueName: "folder[,rw|,copy|,rw=path]"),
    completion: .directory)
  var root: String?

  @Option(help: "The guests' console: serial or virtio.")
  var console: ConsoleArgument?

  @Option(help: "How to run them: hardware, rewriting, paravirtual or auto; given several times, under each.")
  var technique: [TechniqueArgument] = []

  @Option(help: "How long a guest may take: 30s, 500ms, 5m. Default: 60s.")
  var timeout: TimeLimit?

  @Option(name: .shortAndLong, help: "How many run at a time. Default: one for each processor of the host.")
  var jobs: Int?

  @Option(
    help: ArgumentHelp(
      "Let GDB at the only test, as 'trivisor run' does; --timeout counts meanwhile.",
      valueName: "PORT|unix:PATH[,wait]"))
  var gdb: String?

  @Option(help: "How often a test that does not pass is run again.")
  var retries = 0

  @Option(
    help: ArgumentHelp("An extended regular expression that a line of the console must match.", valueName: "pattern"))
  var expect: String?

  @Option(help: ArgumentHelp("One that no line may match.", valueName: "pattern"))
  var forbid: String?

  @Flag(help: "End the guest as soon as what --expect asks for is there: for guests that never end.")
  var endWithOutput = false

  @Option(help: ArgumentHelp("The exit code that is right.", valueName: "code"))
  var exitCode: UInt8?

  @Flag(help: "The console holds test points in the Test Anything Protocol, TAP or Linux' KTAP.")
  var tap = false

  @Flag(help: "A list without tests is a success, and not a mistake.")
  var allowEmpty = false

  @Option(
    help: ArgumentHelp("Keep each guest's console as a file in this folder.", valueName: "folder"),
    completion: .directory)
  var artifacts: String?

  @Option(help: "Write the results as JUnit's XML.", completion: .file(extensions: ["xml"]))
  var junit: String?

  @Option(help: "Write the results as JSON; - is standard output.", completion: .file(extensions: ["json"]))
  var json: String?

  @Option(help: "Write the results as one page for a browser.", completion: .file(extensions: ["html"]))
  var html: String?

  @Flag(
    help: """
      End with what 'git bisect run' takes: 0 good, 1 if a guest failed, crashed or took too long, 125 (skip) if nothing is known \
      because one could not be loaded or Trivisor failed.
      """)
  var bisectCodes = false

  @Flag(name: .shortAndLong, help: "Say only what did not pass, and the last line.")
  var quiet = false

  func validate() throws {
    if let jobs, jobs < 1 { throw ValidationError("--jobs: at least one guest must run") }
    if retries < 0 { throw ValidationError("--retries: there is no test to run \(retries) times more") }
    if endWithOutput, expect == nil { throw ValidationError("--end-with-output: there is no --expect to end with") }
  }

  func run() throws {
    let began = monotonicNanoseconds()
    if let root { _ = try RootArgument.root(root) }
    let environment = { (name: String) in getenv(name).map { String(cString: $0) } }
    let shard: Shard
    do throws(Shard.Failure) {
      shard = try Shard(environment: environment)
    } catch {
      throw Refusal(status: .usage, message: error.description)
    }
    Shard.acknowledge(environment: environment)
    let all = try chosen(
      TestCase.withUniqueNames(try allTests()), bazelFilter: environment("TESTBRIDGE_TEST_ONLY"))
    // A shard may be empty where there are more shards than tests.
    guard allowEmpty || !all.isEmpty else {
      throw Refusal(
        status: .usage,
        message: "there is nothing to test: "
          + (filter.isEmpty ? "\(manifest ?? Self.standardManifest) lists no tests" : "--filter matches no test's name")
          + "; --allow-empty lets it pass")
    }
    var tests = shard.part(of: all)
    if let gdb { try letDebugger(gdb, at: &tests) }
    if list {
      for test in tests { Diagnostics.print(test.name) }
      return
    }
    try makeArtifactsFolder()
    let results = [("--junit", junit), ("--json", json), ("--html", html)]
    for (option, file) in results { try ResultFile.refuseUnwritable(file, option: option) }
    try ResultFile.refuseSharing(results)
    let session = TestSession(tests, jobs: jobs ?? max(sysconf(Int32(_SC_NPROCESSORS_ONLN)), 1))
    session.retries = retries
    session.artifacts = artifacts.map { FilePath($0) }
    let progress = TestProgress(
      count: tests.count, isQuiet: quiet, isOnErrors: results.contains { ResultFile.isStandardOutput($0.1) })
    session.observer = { progress.observe($0) }
    let signal: Int32?
    do {
      signal = try session.run()
    } catch let failure as LinePattern.Failure {
      throw Refusal(status: .usage, message: failure.description)
    } catch let failure as ProcessFailure {
      progress.clear()
      throw Refusal(status: .failed, message: failure.description)
    }
    let wallTime = monotonicNanoseconds() - began
    let verdict = session.results.map(\.verdict).max() ?? .passed
    let status = signal.map { 128 + $0 } ?? (bisectCodes ? Verdict.bisectStatus(session.results) : verdict.status)
    progress.finish(session.results, wallTime: wallTime, shard: shard, signal: signal)
    if let junit {
      try ResultFile.write(JUnitReport.text(session.results, wallTime: wallTime), to: junit, option: "--junit")
    }
    if let json {
      let report = TestReport(
        session.results, verdict: signal == nil ? verdict : .interrupted, status: status, wallTime: wallTime,
        shard: shard)
      try ResultFile.write(try report.text(), to: json, option: "--json")
    }
    if let html {
      let report = TestReport(
        session.results, verdict: signal == nil ? verdict : .interrupted, status: status, wallTime: wallTime,
        shard: shard, showsConsoles: true)
      try ResultFile.write(try TestPage.text(report, date: Moment.now), to: html, option: "--html")
    }
    Diagnostics.end(status)
  }

  private func letDebugger(_ place: String, at tests: inout [TestCase]) throws {
    do throws(DebuggerFailure) { try DebuggerAddress(place).refuseUnknownWord() } catch {
      throw Refusal(status: .usage, message: "--gdb: \(error)")
    }
    guard tests.count == 1 else {
      throw Refusal(
        status: .usage,
        message: "--gdb: a debugger sees one guest, and there are \(tests.count) tests: choose one (--filter)")
    }
    tests[0].addOptions(["--gdb=\(place)"])
  }

  /// Those that --filter and Bazel's `--test_filter` leave.
  private func chosen(_ tests: [TestCase], bazelFilter: String?) throws -> [TestCase] {
    let patterns = filter + (bazelFilter.flatMap { $0.isEmpty ? nil : [$0] } ?? [])
    guard !patterns.isEmpty else { return tests }
    do throws(LinePattern.Failure) {
      var compiled: [LinePattern] = []
      for pattern in patterns { compiled.append(try LinePattern(pattern)) }
      return tests.filter { test in compiled.contains { $0.matches(Array(test.name.utf8)[...]) } }
    } catch {
      throw Refusal(status: .usage, message: "--filter: \(error)")
    }
  }

  /// Options of `trivisor run` for each guest.
  private var guestOptions: [String] {
    options.words + (exec.map { ["--exec=\($0)"] } ?? []) + (root.map { ["--root=\($0)"] } ?? [])
      + (console.map { ["--console=\($0.rawValue)"] } ?? [])
  }

  /// From the command line and the manifest.
  private func allTests() throws -> [TestCase] {
    let limit = timeout?.nanoseconds ?? 60_000_000_000
    let techniques = technique.map(\.rawValue)
    var expectation = Expectation()
    expectation.output = expect
    expectation.forbiddenOutput = forbid
    expectation.endsWithOutput = endWithOutput
    expectation.exitCode = exitCode
    expectation.tap = tap
    var tests: [TestCase] = []
    for image in images {
      for technique in techniques.isEmpty ? [nil] : techniques.map(Optional.some) {
        tests.append(
          TestCase(
            name: techniques.count > 1 ? "\(image) [\(technique ?? "")]" : image,
            runArguments: [image] + (technique.map { ["--technique=\($0)"] } ?? []) + guestOptions, timeLimit: limit,
            expectation: expectation))
      }
    }
    guard let path = manifest ?? (images.isEmpty ? Self.standardManifest : nil) else { return tests }
    if manifest == nil, access(path, F_OK) != 0 {
      throw Refusal(
        status: .usage, message: "there is nothing to test: name images, or list them in \(Self.standardManifest)")
    }
    do throws(ManifestFailure) {
      var listed = try TestCase.ofManifest(
        at: FilePath(path), techniques: techniques, timeLimit: limit,
        parseTime: { TimeLimit(argument: $0)?.nanoseconds })
      for index in listed.indices { listed[index].addOptions(guestOptions) }
      return tests + listed
    } catch {
      throw Refusal(status: .usage, message: error.description)
    }
  }

  private func makeArtifactsFolder() throws {
    guard let artifacts else { return }
    guard mkdir(artifacts, 0o777) == 0 || errno == EEXIST, access(artifacts, W_OK | X_OK) == 0 else {
      throw Refusal(
        status: .usage, message: "--artifacts: \(artifacts) can't be written: \(Errno(rawValue: errno))")
    }
  }
}
