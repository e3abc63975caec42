import Foundation
import Testing

/// 64-bit code against the host's processor: in a process of its own, because that one takes over its signals and gives up
/// system calls.
struct DifferentialTests {
  private static let executable =
    Bundle.allBundles.map(\.bundleURL).first { $0.pathExtension == "xctest" }
    .map { $0.deletingLastPathComponent() }
    ?? URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()

  @Test("random code has the same effects natively and translated", arguments: [false, true])
  func compares(isShared: Bool) throws {
    let environment = ProcessInfo.processInfo.environment
    let process = Process()
    process.executableURL = Self.executable.appending(path: "trivisor-differential")
    process.arguments = [
      "--cases", environment["TRIVISOR_DIFFERENTIAL_COUNT"] ?? (isShared ? "10000" : "20000"),
      "--seed", environment["TRIVISOR_DIFFERENTIAL_SEED"] ?? "\(UInt32.random(in: 0...999_999))",
    ]
    if isShared { process.arguments?.append("--shared") }
    let output = Pipe()
    process.standardOutput = output
    try process.run()
    let said = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    #expect(process.terminationStatus == 0, "\(said)")
  }
}
