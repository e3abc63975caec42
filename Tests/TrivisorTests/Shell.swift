import Foundation
import Glibc

/// Runs scripts as a shell or a CI job does, in a folder of their own that goes with this object.
final class Shell {
  /// What came of a script.
  struct Result {
    let output: [UInt8]
    let errors: String
    let status: Int32
    let seconds: Double

    var text: String { String(decoding: output, as: UTF8.self) }
    /// What Trivisor said besides naming the technique.
    var complaints: [String] {
      errors.split(separator: "\n").map(String.init).filter { !$0.hasPrefix("trivisor: technique ") }
    }
  }

  let folder = FileManager.default.temporaryDirectory.appending(path: "trivisor-\(UUID())")

  init() throws { try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true) }

  deinit { try? FileManager.default.removeItem(at: folder) }

  /// Puts a file into the folder.
  func put(_ bytes: [UInt8], as name: String) throws { try Data(bytes).write(to: folder.appending(path: name)) }

  /// The bytes of a file in the folder; empty if there is none.
  func bytes(of name: String) -> [UInt8] { [UInt8]((try? Data(contentsOf: folder.appending(path: name))) ?? Data()) }

  /// A file in the folder as JSON.
  func object(_ name: String) -> [String: Any]? {
    try? JSONSerialization.jsonObject(with: Data(bytes(of: name))) as? [String: Any]
  }

  /// Runs a script for bash in the folder, with `$trivisor` and, beside it, the other executables in `$bin`.
  func run(_ script: String) throws -> Result {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/bin/bash")
    process.arguments = ["-c", script]
    process.currentDirectoryURL = folder
    process.environment = ProcessInfo.processInfo.environment.merging([
      "trivisor": Command.executable.appending(path: "trivisor").path, "bin": Command.executable.path,
      "TMPDIR": folder.path,
    ]) { $1 }
    let (output, errors) = (Pipe(), Pipe())
    process.standardInput = FileHandle.nullDevice
    process.standardOutput = output
    process.standardError = errors
    let began = Date()
    try process.run()
    let outputData = output.fileHandleForReading.readDataToEndOfFile()
    let errorData = errors.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    let status = process.terminationReason == .exit ? process.terminationStatus : 128 + process.terminationStatus
    return Result(
      output: [UInt8](outputData), errors: String(decoding: errorData, as: UTF8.self), status: status,
      seconds: Date().timeIntervalSince(began))
  }
}
