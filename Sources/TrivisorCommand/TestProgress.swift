// What a person sees of a test run: a line for each test that is over, on standard output; and, if standard error is a
// terminal, one line more below them that says what runs now and is written over again and again. It changes nothing of
// the terminal but that line.

import Glibc
import TrivisorTestRunner
import TrivisorVMM

/// Shows how a test run goes.
final class TestProgress {
  private let count: Int
  private let terminalWidth: Int?
  private let isQuiet: Bool
  private let isOnErrors: Bool
  private var running: [(name: String, began: UInt64)] = []
  private var ended = 0
  private var bad = 0
  /// The line about what runs, if it is there.
  private var status: String?

  /// - Parameters:
  ///   - count: of the tests.
  ///   - isQuiet: what passed is not told.
  ///   - isOnErrors: standard output has the result, and lines for a person go to standard error.
  init(count: Int, isQuiet: Bool = false, isOnErrors: Bool = false) {
    self.count = count
    self.isQuiet = isQuiet
    self.isOnErrors = isOnErrors
    terminalWidth = isatty(STDERR_FILENO) == 0 ? nil : HostTerminal.columns(of: STDERR_FILENO) ?? 80
  }

  func observe(_ event: TestSession.Event) {
    switch event {
    case .began(let test, let attempt):
      running.append((attempt > 1 ? "\(test.name) (attempt \(attempt))" : test.name, monotonicNanoseconds()))
    case .retried(let result):
      leave(result)
      say("again     \(result.name)  \(result.verdict.title): \(Self.printable(result.reason, width: 1000))")
    case .ended(let result):
      leave(result)
      ended += 1
      if !result.verdict.isGood { bad += 1 }
      if !isQuiet || !result.verdict.isGood { say(Self.lines(of: result)) }
    case .timePassed: break
    }
    showStatus()
  }

  /// Takes the line about what runs away.
  func clear() {
    guard status != nil else { return }
    Diagnostics.draw("\r\u{1b}[K")
    status = nil
  }

  /// The last word.
  func finish(_ results: [TestResult], wallTime: UInt64, shard: Shard, signal: Int32?) {
    clear()
    var parts: [String] = []
    for verdict in Verdict.allCases {
      let number = results.count { $0.verdict == verdict }
      if number > 0 { parts.append("\(number) \(verdict.title)") }
    }
    if results.count < count { parts.append("\(count - results.count) not run") }
    let retried = results.count { $0.attempts > 1 && $0.verdict.isGood }
    if retried > 0 { parts.append("\(retried) only when run again") }
    let part = shard == .whole ? "" : " (shard \(shard.index) of \(shard.count))"
    let all = parts.isEmpty ? "no tests" : parts.joined(separator: ", ")
    say("\(all)\(part) in \(Self.seconds(wallTime))")
    if let signal { Diagnostics.say("ended by signal \(signal)") }
  }

  private func leave(_ result: TestResult) {
    if let index = running.firstIndex(where: { $0.name == result.name || $0.name.hasPrefix(result.name + " (attempt ") }
    ) {
      running.remove(at: index)
    }
  }

  private func say(_ text: String) {
    clear()
    Diagnostics.write(text + "\n", to: isOnErrors ? .standardError : .standardOutput)
  }

  private func showStatus() {
    guard let terminalWidth else { return }
    guard !running.isEmpty else { return clear() }
    let now = monotonicNanoseconds()
    let names = running.map { "\($0.name) \((now - $0.began) / 1_000_000_000) s" }.joined(separator: ", ")
    let failures = bad > 0 ? ", \(bad) bad" : ""
    let line = Self.printable("[\(ended)/\(count)\(failures)] \(names)", width: terminalWidth - 1)
    guard line != status else { return }
    Diagnostics.draw("\r\(line)\u{1b}[K")
    status = line
  }

  /// At a terminal, unless its user wants none (https://no-color.org).
  private static let usesColor: Bool = {
    func variable(_ name: String) -> String { getenv(name).map { String(cString: $0) } ?? "" }
    return isatty(STDOUT_FILENO) != 0 && variable("NO_COLOR").isEmpty && variable("TERM") != "dumb"
  }()

  private static func lines(of result: TestResult) -> String {
    let title = result.verdict.title
    let shownTitle = usesColor ? "\u{1b}[\(result.verdict.isGood ? 32 : 31)m\(title)\u{1b}[m" : title
    let padding = String(repeating: " ", count: max(9 - title.count, 1))
    let technique = result.technique.map { ", \($0)" } ?? ""
    let attempts = result.attempts > 1 ? ", attempt \(result.attempts)" : ""
    var text = "\(shownTitle)\(padding) \(result.name)  (\(seconds(result.wallTime))\(technique)\(attempts))"
    if !result.reason.isEmpty { text += "\n          \(printable(result.reason, width: 1000))" }
    if !result.verdict.isGood, result.verdict != .interrupted {
      let lines = String(decoding: result.consoleTail, as: UTF8.self).split(whereSeparator: \.isNewline)
      for line in lines.suffix(10) { text += "\n          | \(printable(String(line), width: 200))" }
      if let artifact = result.artifact { text += "\n          its console: \(artifact)" }
    }
    return text
  }

  /// Without anything that would move the cursor or change the terminal: it comes from a guest.
  private static func printable(_ text: String, width: Int) -> String {
    var result = ""
    for scalar in text.unicodeScalars.prefix(max(width, 1)) where scalar.properties.generalCategory != .control {
      result.unicodeScalars.append(scalar)
    }
    return result
  }

  private static func seconds(_ nanoseconds: UInt64) -> String {
    let hundredths = (nanoseconds + 5_000_000) / 10_000_000
    let fraction = hundredths % 100
    return "\(hundredths / 100).\(fraction < 10 ? "0" : "")\(fraction) s"
  }
}
