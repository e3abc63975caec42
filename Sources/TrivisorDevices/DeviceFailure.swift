import SystemPackage
import TrivisorVMM

/// The host refused something that a device needs. Never the guest's fault.
public struct DeviceFailure: Error, Sendable, Equatable, CustomStringConvertible {
  /// What was tried: "open disk.img".
  public let call: String
  /// What the host answered, or what is wrong with what it gave.
  public let reason: String
  /// What the user can do about it; empty where there is nothing.
  public let remedy: String
  /// Whether the host has no more of what is needed: then nothing is wrong with what the user gave.
  public let isShortage: Bool

  /// - Parameters:
  ///   - call: as the host's manuals name it, with its object.
  ///   - reason: errno's text, or one clause.
  ///   - remedy: an imperative for the user, or empty.
  public init(call: String, reason: String, remedy: String = "") {
    self.call = call
    self.reason = reason
    self.remedy = remedy
    isShortage = false
  }

  init(call: String, _ error: Errno, remedy: String = "") {
    self.call = call
    reason = error.description
    isShortage = HostRemedy.isShortage(error)
    self.remedy = isShortage ? HostRemedy.of(error).description : remedy
  }

  /// One sentence.
  public var description: String {
    remedy.isEmpty ? "\(call) failed: \(reason)" : "\(call) failed: \(reason); \(remedy)"
  }
}
