import TrivisorPlatform
import Testing
import TrivisorVMM

/// The guests of ours for Xen's interface say the same when their code is translated as when it runs natively, and as they say on
/// real Xen.
@Suite(.serialized)
struct TranslatedGuestTests {
  private func run(_ guest: String, _ commandLine: String = "") throws -> (outcome: Outcome, output: String) {
    var runner = GuestRunner()
    runner.isTranslated = true
    return try runner.run(guest, commandLine: commandLine)
  }

  @Test(
    "the same output",
    arguments: [
      ("compute", "", "compute.txt"), ("ring3", "", "ring3.txt"), ("ring3", "syscall", "ring3.txt"),
      ("nanobench", "check", "nanobench-check-xen.txt"), ("nanobench", "check syscall", "nanobench-check-xen.txt"),
      ("abi", "", "abi.txt"), ("smp", "", "smp-1.txt"), ("consoles", "", "consoles.txt"),
      ("consoles", "ring", "consoles-ring.txt"),
    ])
  func same(guest: String, commandLine: String, file: String) throws {
    let result = try run(guest, commandLine)
    #expect(result.outcome == .exited(code: 0))
    try GuestRunner.compare(result.output, with: file)
  }

  /// Instructions that say what is the host's when they run natively, in Xen's selectors and tables above all.
  private static let hosts: Set<String> = [
    "sgdt", "sidt", "str", "mov r, cs", "mov r, ss", "mov ds, r", "mov ss, r", "verr", "verw",
  ]

  @Test("what native execution can't hide is the guest's own")
  func privileged() throws {
    func lines(_ text: String) -> [Substring] {
      GuestRunner.withoutVaryingLines(text).split(separator: "\n", omittingEmptySubsequences: false)
    }
    func isHosts(_ line: Substring) -> Bool {
      Self.hosts.contains { line.dropFirst(9).hasPrefix($0 + " ") }
    }
    let result = try run("privileged")
    #expect(result.outcome == .exited(code: 0))
    let said = lines(result.output)
    #expect(
      said.filter { !isHosts($0) } == lines(try GuestRunner.expected("privileged-xen.txt")).filter { !isHosts($0) })
    for name in ["sgdt", "sidt", "mov r, cs", "mov r, ss"] {
      let values = said.filter { $0.dropFirst(9).hasPrefix(name + " ") }
      #expect(!values.isEmpty && values.allSatisfy { $0.hasSuffix("the guest's own value") }, "\(name)")
    }
    for name in ["mov ds, r", "mov ss, r"] {
      let effects = said.filter { $0.dropFirst(9).hasPrefix(name + " ") }
      #expect(!effects.isEmpty && effects.allSatisfy { $0.hasSuffix("right effect") }, "\(name)")
    }
  }

  @Test("each crash ends with a reason", arguments: ["triple-fault", "jump", "stack-overflow"])
  func crash(variant: String) throws {
    let result = try run("crash", variant)
    guard case .crashed(let report) = result.outcome else {
      Issue.record("\(result.outcome)")
      return
    }
    #expect(report.summary.contains("the guest has no"))
    try GuestRunner.compare(result.output, with: "crash-\(variant).txt")
  }

  @Test("halted for good, and an endless loop that is stopped")
  func ends() throws {
    #expect(try run("crash", "halt").outcome == .halted)
    var runner = GuestRunner()
    (runner.isTranslated, runner.seconds) = (true, 1)
    #expect(try runner.run("crash", commandLine: "loop").outcome == .stopped(.timeout))
  }

  @Test("several processors take turns, up to sixteen; more are refused by name", arguments: [2, 4])
  func processors(count: Int) throws {
    var runner = GuestRunner()
    (runner.isTranslated, runner.processors) = (true, count)
    let result = try runner.run("smp")
    #expect(result.outcome == .exited(code: 0))
    try GuestRunner.compare(result.output, with: "smp-\(count).txt")
    runner.processors = 17
    guard case .failed(let failure) = try runner.run("smp").outcome else {
      Issue.record("it ran")
      return
    }
    #expect(failure.reason.contains("at most 16 processors"))
  }
}
