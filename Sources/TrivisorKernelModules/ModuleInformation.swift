import TrivisorBoot

/// What a module says of itself in its section .modinfo (Linux: include/linux/moduleparam.h, scripts/mod).
public struct ModuleInformation: Sendable, Equatable {
  /// Modules that must be there before; their names with underscores.
  public var dependencies: [String] = []
  /// Modules that should be there before, and those that should follow (MODULE_SOFTDEP).
  public var softDependencies: (before: [String], after: [String]) = ([], [])
  /// Other names, patterns among them (MODULE_ALIAS).
  public var aliases: [String] = []

  /// Both the same.
  public static func == (left: ModuleInformation, right: ModuleInformation) -> Bool {
    left.dependencies == right.dependencies && left.aliases == right.aliases
      && left.softDependencies == right.softDependencies
  }

  /// - Parameter section: `KEY=VALUE` each, with zeros between.
  package init(section: some Collection<UInt8>) {
    for entry in section.split(separator: 0) {
      let text = String(decoding: Array(entry), as: UTF8.self)
      guard let equals = text.firstIndex(of: "=") else { continue }
      let value = text[text.index(after: equals)...]
      switch text[..<equals] {
      case "depends": dependencies += value.split(separator: ",").map { Self.canonical($0) }
      case "alias": aliases.append(String(value))
      case "softdep": addSoftDependencies(value)
      default: break
      }
    }
  }

  /// "pre: a b post: c"
  private mutating func addSoftDependencies(_ text: Substring) {
    var isAfter: Bool?
    for word in text.split(separator: " ") {
      switch word {
      case "pre:": isAfter = false
      case "post:": isAfter = true
      default:
        if isAfter == false { softDependencies.before.append(Self.canonical(word)) }
        if isAfter == true { softDependencies.after.append(Self.canonical(word)) }
      }
    }
  }

  /// A module's name as the kernel writes it.
  static func canonical(_ name: some StringProtocol) -> String {
    String(name.map { $0 == "-" ? "_" : $0 })
  }
}
