import Foundation
import Glibc
import Testing

/// The table of docs/security.md: what a guest that has taken its monitor over finds outside it. The bug is planted
/// (`PlantedBug`), in debug builds.
@Suite("A monitor that locks itself in")
struct ConfinementTests {
  /// What became of each attempt.
  private static func attempts(_ arguments: [String], reading path: String, writing folder: String) throws
    -> (told: [String: String], errors: String, status: Int32)
  {
    let process = Process()
    process.executableURL = Command.executable.appending(path: "trivisor")
    process.arguments = ["run"] + arguments
    process.environment = ProcessInfo.processInfo.environment.merging(
      ["TRIVISOR_PLANTED_BUG": "\(path):\(folder)"]) { $1 }
    let errors = Pipe()
    process.standardInput = FileHandle.nullDevice
    process.standardOutput = FileHandle.nullDevice
    process.standardError = errors
    try process.run()
    let text = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    var told: [String: String] = [:]
    for line in text.split(separator: "\n") where line.hasPrefix("trivisor: planted: ") {
      let parts = line.dropFirst("trivisor: planted: ".count).split(separator: ":", maxSplits: 1)
      if parts.count == 2 { told[String(parts[0])] = parts[1].trimmingCharacters(in: .whitespaces) }
    }
    return (told, text, process.terminationStatus)
  }

  /// What a technique leaves, and what it must not.
  @Test(
    "without shares nothing can be opened, executed, connected, traced, killed or typed",
    arguments: ["rewriting", "paravirtual"] + (hasKVM ? ["hardware"] : []))
  func planted(technique: String) throws {
    let result = try Self.attempts(
      ["guest:hello", "--technique", technique, "-v"], reading: "/etc/passwd", writing: NSTemporaryDirectory())
    #expect(result.status == 0, "\(result.errors)")
    try #require(result.errors.contains("confined by seccomp"), "\(result.errors)")
    for attempt in ["read", "write", "execute", "connect", "trace", "type", "fork", "legacy"] {
      let told = try #require(result.told[attempt], "\(result.errors)")
      #expect(told != "done", "\(attempt): \(result.errors)")
    }
    // The paravirtual technique ends processes of its own; Landlock keeps it to those from its sixth version on.
    if technique != "paravirtual" || Self.landlockVersion >= 6 { #expect(result.told["kill"] != "done") }
    // It sets limits of its own processes, too, and the superuser may raise them.
    if technique != "paravirtual" || geteuid() != 0 { #expect(result.told["limit"] != "done") }
    if technique == "hardware" { #expect(result.told["code"] != "done") }
    let needless = result.told.filter { $0.key.hasPrefix("call ") }
    #expect(needless.count > 30)
    // The filter's own answer: without it, calls that get nothing to work with end by other errors.
    for (call, told) in needless { #expect(told == "Operation not permitted", "\(technique): \(call)") }
  }

  @Test("with a share only what is below it can be opened", .enabled(if: Self.landlockVersion > 0))
  func share() throws {
    let folder = FileManager.default.temporaryDirectory.appending(path: "trivisor-\(UUID())")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    try Data("inside".utf8).write(to: folder.appending(path: "file"))
    let arguments = ["guest:hello", "--technique", "rewriting", "--share", folder.path]
    let outside = try Self.attempts(arguments, reading: "/etc/passwd", writing: "/tmp")
    for attempt in ["read", "write"] { #expect(outside.told[attempt] == "Permission denied", "\(outside.errors)") }
    let inside = try Self.attempts(arguments, reading: folder.path + "/file", writing: folder.path)
    for attempt in ["read", "write"] { #expect(inside.told[attempt] == "done", "\(inside.errors)") }
    let readOnly = try Self.attempts(
      arguments.dropLast() + [folder.path + ",ro"], reading: folder.path + "/file", writing: folder.path)
    #expect(readOnly.told["read"] == "done", "\(readOnly.errors)")
    #expect(readOnly.told["write"] == "Permission denied", "\(readOnly.errors)")
  }

  @Test("the tests' attempts are ones that work where nothing confines")
  func unconfined() throws {
    let result = try Self.attempts(
      ["guest:hello", "--technique", "rewriting", "--no-sandbox", "-v"], reading: "/etc/passwd", writing: "/tmp")
    #expect(result.told.isEmpty)
    #expect(result.errors.contains("confined by nothing"))
    #expect(result.status == 0)
  }

  /// As the program itself found it; 0 where there is none.
  private static let landlockVersion: Int = {
    let errors = (try? Command.run("run", "guest:hello", "--technique", "rewriting", "-v").errors) ?? ""
    return errors.firstRange(of: "Landlock ").flatMap { Int(errors[$0.upperBound...].prefix { $0.isNumber }) } ?? 0
  }()
}
