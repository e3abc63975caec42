import SystemPackage
import TrivisorVMM

/// A network can't be had.
public struct NetworkFailure: Error, Sendable, Equatable, CustomStringConvertible {
  /// What, and what to do.
  public let sentence: Sentence
  /// Whether what was asked for makes no sense, whatever the host.
  public let isUsage: Bool

  init(_ sentence: Sentence, isUsage: Bool = false) {
    self.sentence = sentence
    self.isUsage = isUsage
  }

  init(host call: String, _ error: Errno) {
    let remedy = HostRemedy.isShortage(error) ? HostRemedy.of(error) : ""
    self.init(remedy.isEmpty ? "\(call) failed: \(error)" : "\(call) failed: \(error); \(remedy)")
  }

  /// One sentence.
  public var description: String { sentence.description }
}
