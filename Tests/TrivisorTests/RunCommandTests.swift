import TrivisorEmbeddedGuests
import Foundation
import Glibc
import Testing

@Suite("trivisor run, from outside", .enabled(if: hasKVM))
struct RunCommandTests {
  @Test("hello says what it should and ends with 0", arguments: ["hello", "hello-protected"])
  func hello(guest: String) throws {
    let result = try Command.run("run", "guest:\(guest)", "--append", "one two")
    #expect(result.output.contains("Hello from"))
    #expect(result.output.contains("Command line: one two"))
    #expect(result.status == 0)
    #expect(result.complaints == [])
    #expect(result.errors.hasPrefix("trivisor: technique "))
  }

  @Test("a boot sector says hello in real mode")
  func bootSector() throws {
    let result = try Command.run("run", "guest:hello-real")
    #expect(result.output.contains("Hello from 16-bit real mode"))
    #expect(result.status == 0)
  }

  @Test(
    "every way to crash ends in bounded time with the documented status",
    arguments: [
      ("triple-fault", Int32(126)), ("halt", 126), ("jump", 126), ("jump-reported", 1), ("stack-overflow", 126),
    ])
  func crash(variant: String, status: Int32) throws {
    let result = try Command.run("run", "guest:crash", "--append", variant)
    #expect(result.status == status)
    #expect(result.complaints.count == (status == 126 ? 1 : 0))
    #expect(result.seconds < 20)
  }

  @Test("an endless loop with interrupts off ends with the time limit")
  func timeLimit() throws {
    let result = try Command.run("run", "guest:crash", "--append", "loop", "--timeout", "300ms")
    #expect(result.status == 124)
    #expect(result.output.contains("endless loop"))
    #expect(result.complaints.count == 1)
    #expect(result.seconds < 10)
  }

  @Test("a signal ends the run cleanly, with what the guest wrote", arguments: [SIGINT, SIGTERM, SIGHUP])
  func signal(number: Int32) throws {
    // Whoever runs the tests under nohup has SIGHUP ignored, and hands that on.
    let before = Glibc.signal(number, SIG_DFL)
    defer { _ = Glibc.signal(number, before) }
    let words = ["run", "guest:crash", "--append", "loop", "--timeout", "30s"]
    let result = try Command.run(words, awaiting: "endless loop") { kill($0, number) }
    #expect(result.status == 128 + number)
    #expect(result.output.contains("endless loop"))
    #expect(result.seconds < 10)
  }

  @Test("the JSON result tells a guest's own code from ours")
  func result() throws {
    let file = FileManager.default.temporaryDirectory.appending(path: "trivisor-\(UUID()).json")
    defer { try? FileManager.default.removeItem(at: file) }
    let result = try Command.run("run", "guest:hello", "--json", file.path, "--stats")
    #expect(result.status == 0)
    #expect(result.errors.contains("port writes"))
    let object = try #require(
      try JSONSerialization.jsonObject(with: Data(contentsOf: file)) as? [String: Any])
    #expect(object["schemaVersion"] as? Int == 1)
    #expect(object["outcome"] as? String == "exited")
    #expect(object["guestCode"] as? Int == 0)
    let technique = try #require(object["technique"] as? String)
    #expect(["hardware", "rewriting"].contains(technique))
    #expect(result.errors.contains("technique \(technique) ("))
  }

  @Test("QEMU's exit codes are given when they are asked for")
  func qemuExitCodes() throws {
    #expect(try Command.run("run", "guest:hello", "--qemu-exit-codes").status == 1)
  }

  @Test("the debug exit is where it is wanted, unless something else is there")
  func debugExit() throws {
    // mov dx, 0x501; mov al, 7; out dx, al; hlt
    let code: [UInt8] = [0x66, 0xba, 0x01, 0x05, 0xb0, 0x07, 0xee, 0xf4]
    let path = "/tmp/trivisor-debug-exit-\(getpid())"
    try Data(code).write(to: URL(fileURLWithPath: path))
    defer { unlink(path) }
    let words = ["run", path, "--kind", "flat64"]
    #expect(try Command.run(words + ["--debug-exit", "0x501"]).status == 7)
    #expect(try Command.run(words + ["--debug-exit", "0x501", "--qemu-exit-codes"]).status == 15)
    for port in ["0x505", "0x3fb", "0x1e", "0xfffe", "0x10000"] {
      let result = try Command.run(words + ["--debug-exit", port])
      #expect(result.status == 64)
      #expect(result.errors.contains("--debug-exit"))
    }
  }

  @Test("with 64 GiB of memory, of which nothing is committed, hello still runs")
  func muchMemory() throws {
    #expect(try Command.run("run", "guest:hello", "--memory", "64G").status == 0)
  }
}
