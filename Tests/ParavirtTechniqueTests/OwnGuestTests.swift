import TrivisorPlatform
import TrivisorSandbox
import Testing
import TrivisorVMM

/// Every guest of ours that is built for Xen's interface says the same as its native build elsewhere.
@Suite(.serialized)
struct OwnGuestTests {
  private func check(_ guest: String, _ commandLine: String, _ file: String, _ outcome: Outcome, processors: Int = 1)
    throws
  {
    var runner = GuestRunner()
    runner.processors = processors
    let result = try runner.run(guest, commandLine: commandLine)
    #expect(result.outcome == outcome)
    try GuestRunner.compare(result.output, with: file)
  }

  @Test("compute: the checksum of real processors")
  func compute() throws { try check("compute", "", "compute.txt", .exited(code: 0)) }

  @Test("ring3: processes, page tables, a timer", arguments: ["", "syscall"])
  func ring3(commandLine: String) throws { try check("ring3", commandLine, "ring3.txt", .exited(code: 0)) }

  @Test("smp: processors by VCPUOP_initialise", arguments: [1, 2, 4])
  func smp(processors: Int) throws {
    try check("smp", "", "smp-\(processors).txt", .exited(code: 0), processors: processors)
  }

  @Test("nanobench: each operation, once", arguments: ["check", "check syscall"])
  func nanobench(commandLine: String) throws {
    try check("nanobench", commandLine, "nanobench-check-xen.txt", .exited(code: 0))
  }

  @Test("abi: what real Xen says, too")
  func abi() throws { try check("abi", "", "abi.txt", .exited(code: 0)) }

  @Test("consoles: console_io says what real Xen's does, and the ring what Xen's console daemon does")
  func consoles() throws {
    try check("consoles", "", "consoles.txt", .exited(code: 0))
    try check("consoles", "ring", "consoles-ring.txt", .exited(code: 0))
  }

  @Test("user32: a kernel of 32 bits and its user code, in one set of page tables")
  func user32() throws {
    try check("user32", "", "user32.txt", .poweredOff)
    try check("user32", "", "user32-2.txt", .poweredOff, processors: 2)
  }

  @Test("privileged: what traps, what became a hypercall, what goes through silently")
  func privileged() throws {
    try check("privileged", "", "privileged-xen.txt", .exited(code: 0))
    let output = try GuestRunner().run("privileged").output
    let surprising = HostLines.surprising(
      in: output, vendor: HostProcessor.current.vendor, hasProtectionKeys: HostProcessor.hasProtectionKeys)
    #expect(surprising.isEmpty)
  }

  @Test("crash: each way ends with a reason", arguments: ["triple-fault", "jump", "stack-overflow"])
  func crash(variant: String) throws {
    let result = try GuestRunner().run("crash", commandLine: variant)
    guard case .crashed(let report) = result.outcome else {
      Issue.record("\(result.outcome)")
      return
    }
    #expect(report.summary.contains("the guest has no"))
    try GuestRunner.compare(result.output, with: "crash-\(variant).txt")
  }

  @Test("crash: halted for good, an endless loop, a fault that the guest reports itself")
  func otherCrashes() throws {
    #expect(try GuestRunner().run("crash", commandLine: "halt").outcome == .halted)
    var runner = GuestRunner()
    runner.seconds = 1
    #expect(try runner.run("crash", commandLine: "loop").outcome == .stopped(.timeout))
    #expect(try GuestRunner().run("crash", commandLine: "jump-reported").outcome == .exited(code: 1))
  }
}
