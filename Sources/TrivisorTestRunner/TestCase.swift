/// One guest under one technique, and what it must do.
public struct TestCase: Sendable, Equatable {
  /// As reports call it; no two of a run are the same.
  public var name: String
  /// The words behind `trivisor run`, without the time limit.
  public var runArguments: [String]
  /// Nanoseconds that the guest may take.
  public var timeLimit: UInt64
  /// What it must do.
  public var expectation: Expectation

  /// - Parameters:
  ///   - name: as reports call it.
  ///   - runArguments: the words behind `trivisor run`.
  ///   - timeLimit: nanoseconds.
  public init(name: String, runArguments: [String], timeLimit: UInt64, expectation: Expectation = Expectation()) {
    self.name = name
    self.runArguments = runArguments
    self.timeLimit = timeLimit
    self.expectation = expectation
  }

  /// Adds options of `trivisor run` behind those that are there: what stands behind `--` is a command for the guest.
  public mutating func addOptions(_ words: [String]) {
    runArguments.insert(contentsOf: words, at: runArguments.firstIndex(of: "--") ?? runArguments.endIndex)
  }
}
