import Platform
import Testing
import VMM

/// Guests that attack their sandbox: they go on, or end with a reason, and nothing else is touched.
@Suite(.serialized)
struct AttackTests {
  @Test(
    "what a guest may try and survives",
    arguments: [
      "syscalls", "int80", "vsyscall", "compat-sysenter", "compat-int80", "flags", "jumps", "frames", "descriptors",
      "mappings",
    ])
  func survives(attack: String) throws {
    var runner = GuestRunner()
    runner.seconds = 120
    let result = try runner.run("attack", commandLine: attack)
    #expect(result.outcome == .exited(code: 0), "\(result.output)")
    #expect(result.output.hasSuffix("Through.\n"))
    #expect(!result.output.contains(": no"))
  }

  @Test(
    "what ends it, and why",
    arguments: [
      ("compat-syscall", "in 32-bit code, which loses where it was executed"),
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
