import Foundation
import Testing

/// docs/teaching.md promises what its commands print.
@Suite("The worksheet for teachers")
struct TeachingTests {
  /// A command of the page, and the lines that must come in this order.
  struct Exercise: Sendable, CustomTestStringConvertible {
    var command: String
    var lines: [String] = []
    var testDescription: String { command }
  }

  static let exercises: [Exercise] = {
    let page = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appending(path: "../../docs/teaching.md")
    let text = (try? String(contentsOf: page.standardized, encoding: .utf8)) ?? ""
    var exercises: [Exercise] = []
    var isInside = false
    for line in text.components(separatedBy: "\n") {
      if line.hasPrefix("```") {
        isInside = line == "```console"
      } else if isInside, line.hasPrefix("$ ") {
        exercises.append(Exercise(command: String(line.dropFirst(2))))
      } else if isInside, line != "…", !exercises.isEmpty {
        exercises[exercises.count - 1].lines.append(line)
      }
    }
    return exercises
  }()

  @Test("there are exercises") func some() { #expect(Self.exercises.count >= 10) }

  @Test("each command prints what it says there", arguments: exercises)
  func command(exercise: Exercise) throws {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/bin/sh")
    process.arguments = ["-c", exercise.command]
    let path = ProcessInfo.processInfo.environment["PATH"] ?? ""
    process.environment = ProcessInfo.processInfo.environment.merging(["PATH": "\(Command.executable.path):\(path)"]) {
      $1
    }
    let output = Pipe()
    process.standardInput = FileHandle.nullDevice
    process.standardOutput = output
    process.standardError = output
    try process.run()
    let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    var rest = text.replacingOccurrences(of: "\r", with: "").components(separatedBy: "\n")[...]
    for line in exercise.lines {
      let index = rest.firstIndex { $0 == line || $0.hasPrefix(line) }
      guard let index else {
        Issue.record("'\(line)' is not, or not in its place, in:\n\(text)")
        return
      }
      rest = rest[(index + 1)...]
    }
  }
}
