/// The host refused something that a technique needs. Never the guest's fault.
public struct TechniqueFailure: Error, Sendable, Equatable, CustomStringConvertible {
  /// What was tried, as the host names it: "open /dev/kvm", "KVM_CREATE_VM".
  public let call: String
  /// What the host answered.
  public let reason: String
  /// What the user can do about it; empty where there is nothing.
  public let remedy: Sentence

  /// - Parameters:
  ///   - call: as the host's manuals name it.
  ///   - reason: errno's text, or what was missing.
  ///   - remedy: an imperative for the user, or empty.
  public init(call: String, reason: String, remedy: Sentence = "") {
    self.call = call
    self.reason = reason
    self.remedy = remedy
  }

  /// What failed, why, what to do.
  public var sentence: Sentence {
    remedy.isEmpty ? "\(call) failed: \(reason)" : "\(call) failed: \(reason); \(remedy)"
  }

  /// One sentence.
  public var description: String { sentence.description }
}
