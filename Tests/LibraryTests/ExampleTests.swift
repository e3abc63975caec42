import Foundation
import Testing

@Suite("The programs of Examples/")
struct ExampleTests {
  /// The folder of this bundle, where the examples are, too.
  private static let products =
    Bundle.allBundles.map(\.bundleURL).first { $0.pathExtension == "xctest" }
    .map { $0.deletingLastPathComponent() }
    ?? URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()

  private static func run(_ name: String, _ arguments: String..., input: String = "") throws -> (String, Int32) {
    let process = Process()
    process.executableURL = products.appending(path: name)
    process.arguments = arguments
    let (inputPipe, output) = (Pipe(), Pipe())
    process.standardInput = inputPipe
    process.standardOutput = output
    try process.run()
    try inputPipe.fileHandleForWriting.write(contentsOf: Data(input.utf8))
    try inputPipe.fileHandleForWriting.close()
    let data = output.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    return (String(decoding: data, as: UTF8.self), process.terminationStatus)
  }

  @Test("hello")
  func hello() throws {
    let (output, status) = try Self.run("HelloExample", "to", "you")
    #expect(status == 0)
    #expect(output.contains("Command line: to you"))
    #expect(output.contains("the guest "))
  }

  @Test("compare names each technique")
  func compare() throws {
    let (output, status) = try Self.run("CompareExample")
    #expect(status == 0)
    for technique in ["hardware", "rewriting", "paravirtual"] { #expect(output.contains("\(technique): ")) }
  }

  /// A kernel that tools/fetch-guests has brought.
  private static let kernel = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .appending(path: "../../guests/fetched/debian-cloud/vmlinuz").standardized.path

  @Test("a command in Linux", .enabled(if: FileManager.default.fileExists(atPath: kernel)))
  func linux() throws {
    let (output, status) = try Self.run("LinuxExample", Self.kernel, "sort; exit 3", input: "b\na\n")
    #expect(status == 0)
    #expect(output.contains("a\nb\n"))
    #expect(output.contains("the command ended with status 3; the kernel said "))
  }
}
