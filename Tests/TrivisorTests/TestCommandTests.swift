import TrivisorCPseudoTerminal
import Foundation
import Glibc
import Testing

/// Everything here runs by rewriting, which every host has.
@Suite("trivisor test, from outside", .serialized)
struct TestCommandTests {
  /// A run of `trivisor test` in a folder of its own.
  private struct Run {
    let status: Int32
    let output: String
    /// What the run left in its folder, which is also its folder for temporary files.
    let leftovers: [String]
    /// Guests' processes that outlived it.
    let survivors: [pid_t]
    let terminalIsUnchanged: Bool
  }

  /// Runs at a terminal of its own; `whileRunning` is called with the process once the first guest runs.
  private func run(_ arguments: [String], whileRunning: ((pid_t) -> Void)? = nil) throws -> Run {
    let folder = FileManager.default.temporaryDirectory.appending(path: "trivisor-\(UUID())")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    var terminal: Int32 = -1
    let master = open_pseudo_terminal(&terminal)
    try #require(master >= 0)
    defer {
      close(terminal)
      close(master)
    }
    var before = termios()
    tcgetattr(terminal, &before)
    let process = Process()
    process.executableURL = Command.executable.appending(path: "trivisor")
    process.arguments = ["test"] + arguments
    process.currentDirectoryURL = folder
    process.environment = ProcessInfo.processInfo.environment.merging(["TMPDIR": folder.path]) { $1 }
    let output = Pipe()
    process.standardInput = FileHandle(fileDescriptor: terminal)
    process.standardOutput = output
    process.standardError = FileHandle(fileDescriptor: terminal)
    try process.run()
    // A terminal whose output nobody takes blocks those who write to it.
    let drain = Thread {
      var buffer = [UInt8](repeating: 0, count: 4096)
      while read(master, &buffer, buffer.count) > 0 {}
    }
    drain.start()
    if let whileRunning {
      while Self.guests(of: process.processIdentifier).isEmpty, process.isRunning { usleep(10_000) }
      whileRunning(process.processIdentifier)
    }
    let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    // The kernel kills what a killed runner leaves; that takes a moment.
    for _ in 0..<500 where !Self.guests(of: process.processIdentifier).isEmpty { usleep(10_000) }
    var after = termios()
    tcgetattr(terminal, &after)
    return Run(
      status: process.terminationReason == .exit ? process.terminationStatus : 128 + process.terminationStatus,
      output: text, leftovers: try FileManager.default.contentsOfDirectory(atPath: folder.path),
      survivors: Self.guests(of: process.processIdentifier),
      terminalIsUnchanged: before.c_lflag == after.c_lflag && before.c_iflag == after.c_iflag
        && before.c_oflag == after.c_oflag && before.c_cflag == after.c_cflag)
  }

  /// The processes that a runner made for its guests: they carry its number on their command line.
  private static func guests(of runner: pid_t) -> [pid_t] {
    let entries = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
    return entries.compactMap { pid_t($0) }.filter { process in
      commandLine(process).contains("--end-with-parent\0\(runner)\0")
    }
  }

  /// By hand: Foundation takes megabytes for each file that doesn't tell its size, and keeps them for long.
  private static func commandLine(_ process: pid_t) -> String {
    let descriptor = open("/proc/\(process)/cmdline", O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return "" }
    defer { close(descriptor) }
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    let count = read(descriptor, &buffer, buffer.count)
    return count > 0 ? String(decoding: buffer[..<count], as: UTF8.self) : ""
  }

  private func expectNothingLeft(_ run: Run) {
    #expect(run.leftovers == [])
    #expect(run.survivors == [])
    #expect(run.terminalIsUnchanged)
  }

  @Test(
    "each kind of end has its verdict and its status",
    arguments: [
      (["guest:hello"], Int32(0), "passed"),
      (["guest:hello", "--append", "x", "--expect", "^Command line: x$"], 0, "passed"),
      (["guest:hello", "--expect", "^Goodbye"], 1, "no line of the console matches"),
      (["guest:hello", "--forbid", "Hello"], 1, "must not be there"),
      (["guest:hello", "--exit-code", "3"], 1, "exit code 0 instead of 3"),
      (["guest:hello", "--tap"], 1, "no plan"),
      (["guest:crash"], 1, "exit code 2 instead of 0"),
      (["guest:crash", "--append", "triple-fault"], 126, "CRASHED"),
      (["guest:crash", "--append", "loop", "--timeout", "300ms"], 124, "TIMED OUT"),
      (["guest:crash", "--append", "loop", "--expect", "endless loop", "--end-with-output"], 0, "passed"),
      (["no-such-image"], 127, "NOT LOADED"),
      (["guest:hello", "--memory", "1K"], 127, "NOT LOADED"),
      (["guest:hello", "guest:crash", "no-such-image"], 127, "1 passed, 1 FAILED, 1 NOT LOADED"),
    ])
  func verdicts(arguments: [String], status: Int32, text: String) throws {
    let result = try run(arguments + ["--technique", "rewriting"])
    #expect(result.status == status)
    #expect(result.output.contains(text))
    expectNothingLeft(result)
  }

  @Test(
    "nothing to test, and patterns that are none, are usage errors", arguments: [[], ["guest:hello", "--expect", "("]])
  func usage(arguments: [String]) throws {
    #expect(try run(arguments).status == 64)
  }

  @Test("a hundred guests, two at a time, leave nothing behind")
  func hundred() throws {
    let result = try run(Array(repeating: "guest:hello", count: 100) + ["--jobs", "2", "--technique", "rewriting"])
    #expect(result.status == 0)
    #expect(result.output.contains("100 passed"))
    expectNothingLeft(result)
  }

  @Test("a run that is ended in the middle leaves nothing behind", arguments: [SIGINT, SIGTERM, SIGKILL])
  func ended(signal: Int32) throws {
    let guests = Array(repeating: "guest:crash", count: 100)
    let result = try run(guests + ["--append", "loop", "--timeout", "30s", "--jobs", "2", "--technique", "rewriting"]) {
      for _ in 0..<1000 where Self.guests(of: $0).count < 2 { usleep(10_000) }
      kill($0, signal)
    }
    #expect(result.status == 128 + signal)
    if signal != SIGKILL { #expect(result.output.contains("98 not run")) }
    expectNothingLeft(result)
  }

  @Test("a test that fails is run again only if that is asked for")
  func retries() throws {
    #expect(!(try run(["guest:crash", "--technique", "rewriting"]).output.contains("again")))
    let result = try run(["guest:crash", "--technique", "rewriting", "--retries", "2"])
    #expect(result.status == 1)
    #expect(result.output.contains("attempt 3"))
  }

  @Test("JUnit, JSON and consoles are written where they are asked for")
  func reports() throws {
    let folder = FileManager.default.temporaryDirectory.appending(path: "trivisor-\(UUID())")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let result = try run([
      "guest:hello", "--technique", "rewriting", "--junit", folder.path + "/r.xml", "--json", folder.path + "/r.json",
      "--artifacts", folder.path + "/consoles",
    ])
    #expect(result.status == 0)
    let junit = try String(contentsOf: folder.appending(path: "r.xml"), encoding: .utf8)
    #expect(junit.contains("<testcase classname=\"trivisor.rewriting\" name=\"guest:hello\""))
    #expect(try String(contentsOf: folder.appending(path: "r.json"), encoding: .utf8).contains("\"passed\" : 1"))
    let consoles = try FileManager.default.contentsOfDirectory(atPath: folder.path + "/consoles")
    #expect(consoles == ["0001-guest_hello.console"])
  }

  @Test("--list names what --filter leaves, and runs nothing")
  func list() throws {
    let both = try Command.run("test", "guest:hello", "guest:crash", "--list")
    #expect((both.output, both.status) == ("guest:hello\nguest:crash\n", 0))
    let one = try Command.run("test", "guest:hello", "guest:crash", "--list", "--filter", "h[ea]l")
    #expect((one.output, one.status) == ("guest:hello\n", 0))
    let none = try Command.run("test", "guest:hello", "--filter", "nothing")
    #expect(none.status == 64)
    #expect(none.errors.contains("--filter matches no test's name"))
    #expect(try Command.run("test", "guest:hello", "--filter", "(").status == 64)
  }

  @Test("for git bisect, a guest that fails is bad, and one that can't be loaded is skipped")
  func bisect() throws {
    let bad = try Command.run("test", "guest:crash", "--technique", "rewriting", "--bisect-codes", "-q")
    #expect(bad.status == 1)
    #expect(try Command.run("test", "/no/such/image", "--bisect-codes").status == 125)
    let good = try Command.run("test", "guest:hello", "--technique", "rewriting", "--bisect-codes", "-q")
    #expect(good.status == 0)
    #expect(good.output.hasPrefix("1 passed in "))
  }

  @Test("a run's JSON on standard output comes behind what the guest wrote; -q says nothing of the technique")
  func runJSON() throws {
    let result = try Command.run("run", "guest:hello", "--technique", "rewriting", "--json", "-", "-q")
    #expect(result.output.hasPrefix("Hello from 64-bit long mode."))
    #expect(
      result.output.contains("\"outcome\" : \"exited\"") || result.output.contains("\"outcome\" : \"poweredOff\""))
    #expect(result.errors.isEmpty)
  }

  @Test("JSON on standard output stands there alone")
  func standardOutput() throws {
    let result = try Command.run("test", "guest:hello", "--technique", "rewriting", "--json", "-")
    #expect(result.status == 0)
    let object = try JSONSerialization.jsonObject(with: Data(result.output.utf8)) as? [String: Any]
    #expect(object?["verdict"] as? String == "passed")
    #expect(result.errors.contains("1 passed"))
  }

  @Test("so does the page, and a second result beside it is refused", arguments: ["-", "/dev/stdout", "/dev/fd/1"])
  func page(place: String) throws {
    let result = try Command.run("test", "guest:hello", "--technique", "rewriting", "--html", place)
    #expect(result.status == 0)
    #expect(result.output.hasPrefix("<!"))
    #expect(result.errors.contains("1 passed"))
    let both = try Command.run("test", "guest:hello", "--html", place, "--json", "-")
    #expect(both.status == 64)
    #expect(both.errors.contains("--json and --html can't both be standard output"))
  }
}
