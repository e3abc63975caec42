import TrivisorVMM

/// Something that is asked for and can't be had, in the words of the configuration.
public struct ConfigurationError: Error, Sendable, Hashable, CustomStringConvertible {
  /// The property of `VirtualMachineConfiguration` that asks for it.
  public let property: String
  /// One sentence: what is wrong, and what to do.
  public let message: String

  init(_ sentence: Sentence, about property: String) {
    self.property = property
    message = sentence.text { $0.property }
  }

  init(message: String, about property: String) {
    self.property = property
    self.message = message
  }

  init(_ finding: Finding) { self.init(finding.message, about: finding.subject.property) }

  /// The property, and the sentence.
  public var description: String { "\(property): \(message)" }
}

/// What `VirtualMachineConfiguration.validate()` found.
public struct ValidationReport: Sendable, Equatable, CustomStringConvertible {
  /// Every finding for each technique; none where the configuration can be had.
  public let findings: [Technique: [ConfigurationError]]

  /// What is in the way of one technique.
  public subscript(technique: Technique) -> [ConfigurationError] { findings[technique] ?? [] }

  /// The techniques that nothing is in the way of.
  public var usableTechniques: [Technique] { Technique.allCases.filter { self[$0].isEmpty } }

  /// A line for each technique, and one for each finding.
  public var description: String {
    Technique.allCases.map { technique in
      let found = self[technique]
      return found.isEmpty
        ? "\(technique): can be had" : "\(technique):\n" + found.map { "  \($0)" }.joined(separator: "\n")
    }.joined(separator: "\n")
  }
}

extension Setting {
  /// What `VirtualMachineConfiguration` calls it.
  var property: String {
    switch self {
    case .processors: "processorCount"
    case .processorModel: "processorModel"
    case .memory: "memorySize"
    case .interruptChips: "interruptChips"
    case .technique: "technique"
    case .imageKind, .loadAddress, .entry, .linuxEntry, .module: "bootLoader"
    case .commandLine: "bootLoader.commandLine"
    case .initialRamdisk: "bootLoader.initialRamdisk"
    case .root, .rootSize: "linuxCommand.root"
    case .disk: "storageDevices"
    case .socket: "socketDevices"
    case .balloon: "memoryBalloonDevices"
    case .share: "directorySharingDevices"
    case .network: "networkDevices"
    case .serialPorts: "serialPorts"
    case .testDevices: "testDevices"
    case .virtioTransport: "virtioTransport"
    case .timeLimit: "timeLimit"
    case .resetPolicy: "resetPolicy"
    case .command: "linuxCommand"
    case .modulesFolder: "linuxCommand.modules"
    case .workingFolder: "linuxCommand.workingDirectory"
    case .environment: "linuxCommand.environment"
    case .user: "linuxCommand.user"
    default: title
    }
  }
}
