import Foundation
import Glibc

/// Whether this host lets us use KVM at all.
let hasKVM = access("/dev/kvm", R_OK | W_OK) == 0

/// One run of the built `trivisor`, from outside, as a user makes it.
struct Command {
  /// What the process said and how it ended.
  struct Result {
    let output: String
    let errors: String
    /// The exit status, or 128 + the signal that killed it.
    let status: Int32
    let seconds: Double

    /// The lines on standard error but for the one that names the technique.
    var complaints: [String] {
      errors.split(separator: "\n").map(String.init).filter { !$0.hasPrefix("trivisor: technique ") }
    }
  }

  /// The executable beside the test bundle.
  static let executable =
    Bundle.allBundles.map(\.bundleURL).first { $0.pathExtension == "xctest" }
    .map { $0.deletingLastPathComponent() }
    ?? URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()

  /// Runs to the end; `whileRunning` is called once it has been started, with its process ID.
  /// - Parameter awaited: what must be on standard output before that.
  static func run(
    _ arguments: String..., input: String = "", awaiting awaited: String = "", whileRunning: ((pid_t) -> Void)? = nil
  ) throws -> Result {
    try run(arguments, input: input, awaiting: awaited, whileRunning: whileRunning)
  }

  /// As above, with a list.
  static func run(
    _ arguments: [String], input: String = "", awaiting awaited: String = "", whileRunning: ((pid_t) -> Void)? = nil
  ) throws -> Result {
    let process = Process()
    process.executableURL = executable.appending(path: "trivisor")
    process.arguments = arguments
    let (inputPipe, output, errors) = (Pipe(), Pipe(), Pipe())
    process.standardInput = inputPipe
    process.standardOutput = output
    process.standardError = errors
    let began = Date()
    try process.run()
    try inputPipe.fileHandleForWriting.write(contentsOf: Data(input.utf8))
    try inputPipe.fileHandleForWriting.close()
    var outputData = Data()
    while !String(decoding: outputData, as: UTF8.self).contains(awaited) {
      let more = output.fileHandleForReading.availableData
      // The end of the file.
      guard !more.isEmpty else { break }
      outputData += more
    }
    whileRunning?(process.processIdentifier)
    outputData += output.fileHandleForReading.readDataToEndOfFile()
    let errorData = errors.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    let status = process.terminationReason == .exit ? process.terminationStatus : 128 + process.terminationStatus
    return Result(
      output: String(decoding: outputData, as: UTF8.self), errors: String(decoding: errorData, as: UTF8.self),
      status: status, seconds: Date().timeIntervalSince(began))
  }
}
