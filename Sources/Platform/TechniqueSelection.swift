// Which technique runs a guest: what was asked for, or the best that this host has, and always the reason.

import VMM

/// What the user asked for.
public enum TechniqueRequest: Sendable, Equatable {
  /// The best for this host and guest.
  case automatic
  /// This one and no other.
  case named(TechniqueName)
}

/// A technique and why it was taken.
public struct TechniqueChoice: Sendable {
  /// What will run the guest.
  public let technique: any Technique
  /// One sentence for the user.
  public let reason: String

  /// A choice that was made elsewhere.
  public init(technique: any Technique, reason: String) {
    self.technique = technique
    self.reason = reason
  }
}

/// No technique can run here.
public struct NoTechnique: Error, Sendable, CustomStringConvertible {
  /// One sentence: what was asked, what is in the way, what to do.
  public let description: String
}

/// The techniques of this build, best first.
public struct TechniqueSelection: Sendable {
  /// In the order in which `automatic` tries them.
  public let techniques: [any Technique]

  /// - Parameter techniques: best first.
  public init(_ techniques: [any Technique]) { self.techniques = techniques }

  /// - Throws: `NoTechnique` when what was asked for, or everything, is unavailable.
  /// - Parameter isParavirtualKernel: the guest is built for the paravirtual technique, and for no other.
  public func choose(
    _ request: TechniqueRequest, isParavirtualKernel: Bool = false
  ) throws(NoTechnique) -> TechniqueChoice {
    switch request {
    case .named(let name): try named(name)
    case .automatic where isParavirtualKernel:
      TechniqueChoice(technique: try named(.paravirtual).technique, reason: "automatic: the guest is built for it")
    case .automatic: try automatic()
    }
  }

  private func named(_ name: TechniqueName) throws(NoTechnique) -> TechniqueChoice {
    guard let technique = techniques.first(where: { $0.name == name }) else {
      let known = techniques.map(\.name.rawValue).joined(separator: ", ")
      throw NoTechnique(description: "the \(name.rawValue) technique is not in this version, which has \(known)")
    }
    switch technique.probe() {
    case .available: return TechniqueChoice(technique: technique, reason: "asked for")
    case .unavailable(let reason, let remedy):
      throw NoTechnique(description: "the \(name.rawValue) technique can't run here: \(reason); \(remedy)")
    }
  }

  private func automatic() throws(NoTechnique) -> TechniqueChoice {
    var obstacles: [String] = []
    var available: [any Technique] = []
    // A guest that is not built for it can't run paravirtualized.
    for technique in techniques where technique.handoverKind == .processor {
      switch technique.probe() {
      case .available: available.append(technique)
      case .unavailable(let reason, let remedy): obstacles.append("\(technique.name.rawValue): \(reason); \(remedy)")
      }
    }
    guard let first = available.first else {
      throw NoTechnique(description: "no technique can run here: " + obstacles.joined(separator: "; "))
    }
    // Measuring the first takes milliseconds, so only where there is another that would do in its place.
    if let other = available.dropFirst().first(where: { $0.caution() == nil }), let caution = first.caution() {
      return TechniqueChoice(technique: other, reason: "automatic: \(caution)")
    }
    guard !obstacles.isEmpty else { return TechniqueChoice(technique: first, reason: "automatic: this host offers it") }
    let shortcoming = first.caution().map { ", though \($0)" } ?? ""
    return TechniqueChoice(
      technique: first, reason: "automatic: \(obstacles.joined(separator: "; "))\(shortcoming)")
  }
}
