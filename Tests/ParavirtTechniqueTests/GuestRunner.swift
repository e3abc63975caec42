import TrivisorBoot
import TrivisorDevices
import TrivisorEmbeddedGuests
import Foundation
import TrivisorPlatform
import Testing
import TrivisorVMM

@testable import TrivisorParavirtTechnique

/// Runs a guest of ours in its build for Xen's interface.
struct GuestRunner {
  var memory: UInt64 = 64 << 20
  var processors = 1
  var seconds: UInt64 = 60
  var isTranslated = false

  func run(_ guest: String, commandLine: String = "") throws -> (outcome: Outcome, output: String) {
    let bytes = try #require(EmbeddedGuest.named(guest)?.paravirtualBytes)
    return try run(try BootImage(name: guest, bytes: bytes), commandLine: commandLine)
  }

  func run(_ image: BootImage, commandLine: String = "") throws -> (outcome: Outcome, output: String) {
    var request = BootRequest(image: image)
    request.commandLine = commandLine
    var configuration = PlatformConfiguration(boot: request)
    configuration.machine.memorySize = memory
    configuration.machine.processorCount = processors
    let sink = MemorySink()
    configuration.serialPorts = [SerialPortConfiguration(output: sink)]
    var options = RunOptions()
    options.timeLimit = seconds * 1_000_000_000
    let result = try VirtualMachine(configuration, technique: ParavirtTechnique(translatesAll: isTranslated))
      .runOnThisThread(options)
    return (result.outcome, String(decoding: sink.bytes, as: UTF8.self).replacing("\r\n", with: "\n"))
  }

  static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()

  /// What `guests/expected` has, without the lines that depend on the host.
  static func expected(_ file: String) throws -> String {
    let text = try String(contentsOf: root.appending(path: "guests/expected/\(file)"), encoding: .utf8)
    return withoutVaryingLines(text)
  }

  /// Expects what `guests/expected` has; what differs is an issue, line by line.
  static func compare(
    _ output: String, with file: String, sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let found = withoutVaryingLines(output).split(separator: "\n", omittingEmptySubsequences: false)
    let wanted = try expected(file).split(separator: "\n", omittingEmptySubsequences: false)
    let differences = found.difference(from: wanted).map { change in
      switch change {
      case .insert(let line, let text, _): "printed, line \(line + 1): \(text)"
      case .remove(let line, let text, _): "expected, line \(line + 1): \(text)"
      }
    }
    if !differences.isEmpty {
      Issue.record("\(file):\n\(differences.joined(separator: "\n"))", sourceLocation: sourceLocation)
    }
  }

  /// A `*` marks them.
  static func withoutVaryingLines(_ text: String) -> String {
    text.split(separator: "\n", omittingEmptySubsequences: false).filter {
      !$0.hasPrefix("user   *") && !$0.hasPrefix("kernel *")
    }.joined(separator: "\n")
  }
}
