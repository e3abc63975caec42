import TrivisorPlatform
import TrivisorSandbox
import Testing
import TrivisorVMM

/// Guests that attack their sandbox: they go on, or end with a reason, and nothing else is touched.
@Suite(.serialized)
struct AttackTests {
  @Test(
    "what a guest may try and survives",
    arguments: [
      "syscalls", "int80", "vsyscall", "compat-syscall", "compat-int80", "flags", "jumps", "frames", "tables",
      "descriptors", "mappings", "kernel-wrpkru", "user", "user-spin",
    ])
  func survives(attack: String) throws {
    var runner = GuestRunner()
    runner.seconds = 120
    let result = try runner.run("attack", commandLine: attack)
    #expect(result.outcome == .exited(code: 0), "\(result.output)")
    #expect(result.output.hasSuffix("Through.\n"))
    #expect(!result.output.contains(": no"))
  }

  /// As on Xen: where the processor has SYSENTER, its kernel has lost its stack by it.
  @Test(
    "SYSENTER in kernel mode is an invalid instruction, or ends the guest",
    arguments: ["compat-sysenter", "kernel-sysenter"])
  func systemEntry(attack: String) throws {
    guard HostProcessor.hasSYSENTER else { return try survives(attack: attack) }
    try ends(attack: attack, reason: "the guest has no stack for it")
  }

  @Test(
    "what ends it, and why",
    arguments: [
      ("sigreturn-trap", "the sandboxed process was killed by signal"),
      ("stack", "the guest has no stack for it"),
    ])
  func ends(attack: String, reason: String) throws {
    let result = try GuestRunner().run("attack", commandLine: attack)
    guard case .crashed(let report) = result.outcome else {
      Issue.record("\(result.outcome)")
      return
    }
    #expect(report.summary.contains(reason))
  }

  @Test("a guest that blocks all signals and spins is killed when it is asked to stop")
  func blockedSignals() throws {
    var runner = GuestRunner()
    runner.seconds = 2
    let began = monotonicNanoseconds()
    let result = try runner.run("attack", commandLine: "sigreturn-spin")
    switch result.outcome {
    // When the host looks whether the machine is idle, or at the time limit.
    case .crashed(let report): #expect(report.summary.contains("blocked the host's signals"))
    case .stopped(.timeout): break
    default: Issue.record("\(result.outcome)")
    }
    #expect(monotonicNanoseconds() - began < 15_000_000_000)
  }

  @Test("a page table can't be written by a processor that may still believe it can")
  func staleTranslations() throws {
    var runner = GuestRunner()
    runner.processors = 2
    let result = try runner.run("attack", commandLine: "stale")
    #expect(result.outcome == .exited(code: 0), "\(result.output)")
    #expect(!result.output.contains(": no"))
  }

  @Test("jumps to any byte of the stub's page harm nobody else", arguments: 0..<4)
  func jumpsAnywhere(way: Int) throws {
    var runner = GuestRunner()
    runner.seconds = 1
    for offset in stride(from: 0x100 + 5 * way, to: 0x500, by: 41) {
      // It ends in whatever way, but it ends.
      _ = try runner.run("attack", commandLine: "jump-at=\(offset) with=\(way)")
    }
    #expect(try GuestRunner().run("hello").outcome == .exited(code: 0))
  }

  @Test("another processor that overwrites the frames while they are read ends its own domain")
  func race() throws {
    var runner = GuestRunner()
    runner.processors = 2
    runner.seconds = 5
    let result = try runner.run("attack", commandLine: "race")
    switch result.outcome {
    case .crashed, .stopped(.timeout): break
    default: Issue.record("\(result.outcome)")
    }
    #expect(try GuestRunner().run("hello").outcome == .exited(code: 0))
  }
}
