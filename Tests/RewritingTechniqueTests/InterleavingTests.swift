import Foundation
import Testing

/// Several processors that change each other's code, one at a time: in a process of its own, because its handlers stay.
struct InterleavingTests {
  private static let executable =
    Bundle.allBundles.map(\.bundleURL).first { $0.pathExtension == "xctest" }
    .map { $0.deletingLastPathComponent() }
    ?? URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()

  private static func run(_ arguments: [String]) throws -> (status: Int32, said: String) {
    let process = Process()
    process.executableURL = executable.appending(path: "trivisor-interleavings")
    process.arguments = arguments
    let output = Pipe()
    process.standardOutput = output
    try process.run()
    let said = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    return (process.terminationStatus, said)
  }

  @Test("in whatever order processors go on, they run the code that there is")
  func judges() throws {
    let environment = ProcessInfo.processInfo.environment
    let run = try Self.run([
      "--seeds", environment["TRIVISOR_INTERLEAVING_COUNT"] ?? "200",
      "--from", environment["TRIVISOR_INTERLEAVING_SEED"] ?? "\(UInt32.random(in: 0...999_999_999))",
    ])
    #expect(run.status == 0, "\(run.said)")
  }

  @Test("a seed's order is the same each time")
  func repeats() throws {
    let run = try Self.run(["--seeds", "30", "--twice"])
    #expect(run.status == 0, "\(run.said)")
  }
}
