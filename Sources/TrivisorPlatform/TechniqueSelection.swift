// Which technique runs a guest: what was asked for, or the best that this host has, and always the reason.

import TrivisorVMM

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
  /// For the user.
  public let reason: Sentence

  /// A choice that was made elsewhere.
  public init(technique: any Technique, reason: Sentence) {
    self.technique = technique
    self.reason = reason
  }
}

/// No technique can run here.
public struct NoTechnique: Error, Sendable, CustomStringConvertible {
  /// What was asked, what is in the way, what to do.
  public let sentence: Sentence

  /// One sentence.
  public var description: String { sentence.description }
}

/// The techniques of this build, best first.
public struct TechniqueSelection: Sendable {
  /// In the order in which `automatic` tries them.
  public let techniques: [any Technique]

  /// - Parameter techniques: best first.
  public init(_ techniques: [any Technique]) { self.techniques = techniques }

  /// - Throws: `NoTechnique` when what was asked for, or everything, is unavailable.
  /// - Parameters:
  ///   - isParavirtualKernel: the guest is built for the paravirtual technique, and for no other.
  ///   - findings: what of the machine that is to be made a technique can't give; nothing if that is not known yet.
  public func choose(
    _ request: TechniqueRequest, isParavirtualKernel: Bool = false,
    findings: (any Technique) -> [Finding] = { _ in [] }
  ) throws(NoTechnique) -> TechniqueChoice {
    switch request {
    case .named(let name): try named(name)
    case .automatic where isParavirtualKernel:
      TechniqueChoice(technique: try named(.paravirtual).technique, reason: "automatic: the guest is built for it")
    case .automatic: try automatic(findings)
    }
  }

  private func named(_ name: TechniqueName) throws(NoTechnique) -> TechniqueChoice {
    guard let technique = techniques.first(where: { $0.name == name }) else {
      let known = techniques.map(\.name.rawValue).joined(separator: ", ")
      throw NoTechnique(sentence: "the \(name.rawValue) technique is not in this version, which has \(known)")
    }
    switch technique.probe() {
    case .available: return TechniqueChoice(technique: technique, reason: "asked for")
    case .unavailable(let reason, let remedy):
      throw NoTechnique(sentence: "the \(name.rawValue) technique can't run here: \(reason); \(remedy)")
    }
  }

  private func automatic(_ findings: (any Technique) -> [Finding]) throws(NoTechnique) -> TechniqueChoice {
    // What to do about an obstacle is said where nothing can run; else `doctor` tells it, and the line on the choice stays short.
    var obstacles: [Sentence] = []
    var remedies: [Sentence] = []
    var available: [any Technique] = []
    // A guest that is not built for it can't run paravirtualized.
    for technique in techniques where technique.handoverKind == .processor {
      switch technique.probe() {
      case .available: available.append(technique)
      case .unavailable(let reason, let remedy):
        obstacles.append("\(technique.name.rawValue): \(reason)")
        remedies.append("\(technique.name.rawValue): \(reason); \(remedy)")
      }
    }
    guard let best = available.first else {
      throw NoTechnique(sentence: "no technique can run here: \(Self.joined(remedies))")
    }
    let able = available.filter { findings($0).isEmpty }
    // Where none can give what is asked for, the best one's findings tell what of that can't be had.
    guard let first = able.first else { return TechniqueChoice(technique: best, reason: "automatic") }
    if first.name != best.name, let finding = findings(best).first { obstacles.append(finding.message) }
    // Measuring the first takes milliseconds, so only where there is another that would do in its place.
    if let other = available.first(where: { $0.name != first.name && $0.caution() == nil }),
      let caution = first.caution()
    {
      guard able.contains(where: { $0.name == other.name }) else {
        let finding: Sentence = findings(other).first.map { "; \($0.subject): \($0.message)" } ?? ""
        return TechniqueChoice(technique: first, reason: "automatic, though \(caution)\(finding)")
      }
      return TechniqueChoice(technique: other, reason: "automatic: \(caution)")
    }
    guard !obstacles.isEmpty else { return TechniqueChoice(technique: first, reason: "automatic: this host offers it") }
    let shortcoming = first.caution().map { ", though \($0)" } ?? ""
    return TechniqueChoice(technique: first, reason: "automatic: \(Self.joined(obstacles))\(shortcoming)")
  }

  private static func joined(_ sentences: [Sentence]) -> Sentence {
    guard let first = sentences.first else { return "" }
    return sentences.dropFirst().reduce(first) { $0 + "; " + $1 }
  }
}
