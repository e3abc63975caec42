import TrivisorGuestProcess
import Glibc
import SystemPackage

/// Runs tests and gathers their results.
public final class TestSession {
  /// What somebody may want to hear of a run, on the thread that runs it.
  public enum Event {
    /// A test begins, for the `attempt`th time.
    case began(TestCase, attempt: Int)
    /// A test failed and is run once more.
    case retried(TestResult)
    /// A test is over.
    case ended(TestResult)
    /// Some time has passed.
    case timePassed
  }

  /// What is kept of a console for reports.
  static let tailLimit = 32 << 10
  /// What is kept of a console in a file.
  static let artifactLimit = 256 << 20
  /// How much longer than its limit a guest's process may live.
  static let grace: UInt64 = 10_000_000_000

  /// How often a test that is no success is run again.
  public var retries = 0
  /// Where consoles are kept, if anywhere; it must be there.
  public var artifacts: FilePath?
  /// Told of everything.
  public var observer: (Event) -> Void = { _ in }
  /// Results in the order of the tests; those that never ran are missing.
  public private(set) var results: [TestResult] = []

  private let tests: [TestCase]
  private let jobs: Int

  /// - Parameters:
  ///   - tests: each with a name of its own.
  ///   - jobs: how many at a time.
  public init(_ tests: [TestCase], jobs: Int) {
    self.tests = tests
    self.jobs = jobs
  }

  /// Runs all tests, on the process's first thread.
  /// - Returns: the signal that ended the run early, if one did.
  /// - Throws: `LinePattern.Failure` before anything runs; `ProcessFailure` when the host gives no process.
  public func run() throws -> Int32? {
    let judges = try tests.map { try Judge($0) }
    var waiting = Array(judges.indices)[...]
    var again: [(index: Int, attempt: Int)] = []
    var found: [Int: TestResult] = [:]
    let pool = GuestProcessPool(jobs: jobs)
    pool.tickMilliseconds = 500
    pool.whenTime = { [self] in observer(.timePassed) }
    defer { results = found.sorted { $0.key < $1.key }.map(\.value) }
    return try pool.run {
      let (index, attempt): (Int, Int)
      if let retry = again.popLast() {
        (index, attempt) = retry
      } else if let next = waiting.popFirst() {
        (index, attempt) = (next, 1)
      } else {
        return nil
      }
      let file = artifacts.map { $0.appending(Self.fileName(self.tests[index].name, index: index)) }
      return TestJob(judges[index], attempt: attempt, artifact: file, observer: observer) { [self] result in
        if !result.verdict.isGood, result.verdict != .interrupted, attempt <= retries {
          observer(.retried(result))
          again.append((index, attempt + 1))
        } else {
          found[index] = result
          observer(.ended(result))
        }
      }
    }
  }

  /// A name for a file that no other test of the run has, whatever the test's name holds.
  static func fileName(_ name: String, index: Int) -> String {
    let safe = name.utf8.prefix(80).map { byte -> Character in
      switch byte {
      case 0x30...0x39, 0x41...0x5a, 0x61...0x7a, UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "."):
        Character(Unicode.Scalar(byte))
      default: "_"
      }
    }
    let number = String(index + 1)
    return String(repeating: "0", count: max(4 - number.count, 0)) + number + "-" + String(safe) + ".console"
  }
}

/// One attempt at one test.
private final class TestJob: GuestJob {
  private var judge: Judge
  private let attempt: Int
  private let artifact: FilePath?
  private let observer: (TestSession.Event) -> Void
  private let whenEnded: (TestResult) -> Void
  private var file: FileDescriptor?
  private var fileSize = 0
  private var artifactProblem: String?
  private var tail: [UInt8] = []

  init(
    _ judge: Judge, attempt: Int, artifact: FilePath?, observer: @escaping (TestSession.Event) -> Void,
    whenEnded: @escaping (TestResult) -> Void
  ) {
    self.judge = judge
    self.attempt = attempt
    self.artifact = artifact
    self.observer = observer
    self.whenEnded = whenEnded
  }

  var arguments: [String] {
    var test = judge.test
    test.addOptions(["--timeout=\((test.timeLimit + 999_999) / 1_000_000)ms"])
    return test.runArguments
  }

  var hardLimit: UInt64? { judge.test.timeLimit.addingReportingOverflow(TestSession.grace).partialValue }

  func begin() {
    observer(.began(judge.test, attempt: attempt))
    guard let artifact else { return }
    do {
      file = try FileDescriptor.open(
        artifact, .writeOnly, options: [.create, .truncate, .closeOnExec],
        permissions: [.ownerReadWrite, .groupRead, .otherRead])
    } catch {
      artifactProblem = "\(artifact) can't be written: \(error)"
    }
  }

  func receive(_ bytes: UnsafeRawBufferPointer, at time: UInt64) -> Bool {
    tail += bytes.suffix(TestSession.tailLimit)
    if tail.count > 2 * TestSession.tailLimit { tail.removeFirst(tail.count - TestSession.tailLimit) }
    keep(bytes)
    return judge.read(bytes)
  }

  func end(_ ending: GuestEnding) {
    do {
      try file?.close()
    } catch {
      artifactProblem = artifactProblem ?? Self.notKept(error)
    }
    let (verdict, reason) = judge.verdict(ending)
    var result = TestResult(judge.test.name, verdict, reason)
    result.technique = ending.record?.technique
    result.wallTime = ending.wallTime
    result.attempts = attempt
    result.guestCode = ending.record?.guestCode
    result.outcome = ending.record?.outcome
    result.consoleTail = tail.suffix(TestSession.tailLimit)
    result.errors = ending.errors
    result.points = judge.tap?.points ?? []
    result.pointsLeftOut = judge.tap?.pointsLeftOut ?? 0
    if let artifactProblem {
      result.verdict = max(result.verdict, .monitorFailed)
      result.reason = artifactProblem
    } else {
      result.artifact = artifact?.string
    }
    whenEnded(result)
  }

  private func keep(_ bytes: UnsafeRawBufferPointer) {
    guard let file, artifactProblem == nil, fileSize < TestSession.artifactLimit else { return }
    do {
      fileSize += try file.writeAll(bytes)
    } catch {
      artifactProblem = Self.notKept(error)
    }
  }

  private static func notKept(_ error: any Error) -> String { "the console can't be kept: \(error)" }
}
