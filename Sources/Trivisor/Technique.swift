import TrivisorHardwareTechnique
import TrivisorParavirtTechnique
import TrivisorPlatform
import TrivisorRewritingTechnique
import TrivisorVMM

/// The three ways to run a guest, as the literature names them.
public enum Technique: String, Sendable, CaseIterable, CustomStringConvertible {
  /// The processor's own virtualization extension, through KVM: needs /dev/kvm.
  case hardware
  /// Guest code is translated and run in user space: needs nothing.
  case rewriting
  /// The guest was built for Xen's paravirtual interface, and runs deprivileged in a sandboxed process.
  case paravirtual

  /// Its name.
  public var description: String { rawValue }

  /// Whether this host allows it, as far as that can be read from it.
  public var availability: Availability {
    guard let technique = Self.all.techniques.first(where: { $0.name == name }) else {
      return .unavailable("the \(rawValue) technique is not in this version")
    }
    return switch technique.probe() {
    case .available(let notes): .available(notes: notes)
    case .unavailable(let reason, let remedy): .unavailable("\(reason); \(remedy.description)")
    }
  }

  /// What a host says of a technique.
  public enum Availability: Sendable, Equatable {
    /// Usable; what a user should know, a sentence each.
    case available(notes: [String])
    /// Why not, and what would change that, in a sentence.
    case unavailable(String)
  }

  /// Those of this build, best first.
  static let all = TechniqueSelection([HardwareTechnique(), RewritingTechnique(), ParavirtTechnique()])

  var name: TechniqueName {
    switch self {
    case .hardware: .hardware
    case .rewriting: .rewriting
    case .paravirtual: .paravirtual
    }
  }

  init(_ name: TechniqueName) {
    switch name {
    case .hardware: self = .hardware
    case .rewriting: self = .rewriting
    case .paravirtual: self = .paravirtual
    }
  }
}

/// Which technique is wanted.
public enum TechniqueRequest: Sendable, Hashable {
  /// The best for this host and guest.
  case automatic
  /// This one and no other.
  case named(Technique)
}

/// A technique, and why it was taken.
public struct TechniqueChoice: Sendable, Hashable, CustomStringConvertible {
  /// What runs the guest.
  public let technique: Technique
  /// Whether it is a paravirtual domain whose code can't run natively: it is linked for addresses that no process has, as Linux' is,
  /// and is translated.
  public let isTranslated: Bool
  /// A clause for a person.
  public let reason: String

  /// The technique, and the reason between parentheses.
  public var description: String { "\(technique)\(isTranslated ? ", translated" : "") (\(reason))" }
}
