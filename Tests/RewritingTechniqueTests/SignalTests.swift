import Foundation
import Testing

/// Signals of others while translated code runs, each in a process of its own.
struct SignalTests {
  private static let executable =
    Bundle.allBundles.map(\.bundleURL).first { $0.pathExtension == "xctest" }
    .map { $0.deletingLastPathComponent() }
    ?? URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()

  private func run(_ arguments: [String]) throws -> (process: Process, output: String) {
    let process = Process()
    process.executableURL = Self.executable.appending(path: "TrivisorSignalRunner")
    process.arguments = arguments
    process.environment = ["SWIFT_BACKTRACE": "enable=no"]
    let output = Pipe()
    process.standardOutput = output
    process.standardError = output
    try process.run()
    // A guest that no signal ends would run for ever.
    let watchdog = DispatchWorkItem { kill(process.processIdentifier, SIGKILL) }
    DispatchQueue.global().asyncAfter(deadline: .now() + 120, execute: watchdog)
    defer { watchdog.cancel() }
    let said = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    return (process, said)
  }

  @Test(
    "an embedder's handlers, its own faults and its children are left alone",
    arguments: ["handlers", "foreign", "fork"])
  func leavesAlone(what: String) throws {
    let (process, output) = try run([what])
    #expect(process.terminationReason == .exit && process.terminationStatus == 0, "\(output)")
  }

  @Test(
    "a signal from outside does what it does by default, and is no exception of the guest's",
    arguments: [SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP])
  func byDefault(number: Int32) throws {
    let (process, output) = try run(["default", "\(number)"])
    #expect(process.terminationReason == .uncaughtSignal && process.terminationStatus == number, "\(output)")
  }
}
