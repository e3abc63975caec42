import FoundationEssentials
import TrivisorInstructionSet

/// What `trivisor inspect --json` writes: docs/inspect.md describes each member.
public struct InspectionReport: Encodable {
  private struct Region: Encodable {
    let name: String
    let address: String
    let size: Int
    let bits: Int
  }

  private struct Place: Encodable {
    let name: String
    let count: Int
  }

  private struct Entry: Encodable {
    let name: String
    let character: InstructionCharacter
    let count: Int
    let treatment: Treatment
    let places: [Place]
    let addresses: [String]?
  }

  private let schemaVersion = 1
  private let image: String
  private let format: String
  private let regions: [Region]
  private let instructions: Int
  private let undefined: Int
  private let paravirtSites: Int?
  private let counts: [String: Int]
  private let findings: [Entry]

  /// - Parameters:
  ///   - image: as the user named it.
  ///   - format: what the bytes are, in words.
  ///   - withAddresses: whether every address is listed.
  public init(_ inspection: Inspection, image: String, format: String, withAddresses: Bool) {
    self.image = image
    self.format = format
    regions = inspection.regions.map { region in
      let bits =
        switch region.mode {
        case .bits16: 16;
        case .bits32: 32;
        case .bits64: 64
        }
      return Region(name: region.name, address: Self.hexadecimal(region.address), size: region.size, bits: bits)
    }
    instructions = inspection.instructionCount
    undefined = inspection.undefinedCount
    paravirtSites = inspection.paravirtSites
    counts = Dictionary(
      uniqueKeysWithValues: InstructionCharacter.allCases.map { character in
        (
          character.rawValue,
          inspection.findings.filter { $0.character == character }.reduce(0) { $0 + $1.addresses.count }
        )
      })
    findings = inspection.findings.map { finding in
      Entry(
        name: finding.name, character: finding.character, count: finding.addresses.count, treatment: finding.treatment,
        places: inspection.places(of: finding).map { Place(name: $0.name, count: $0.count) },
        addresses: withAddresses ? finding.addresses.map(Self.hexadecimal) : nil)
    }
  }

  /// As text, keys in order.
  /// - Throws: what the encoder throws; none of our types makes it.
  public func text() throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    return String(decoding: try encoder.encode(self), as: UTF8.self) + "\n"
  }

  private static func hexadecimal(_ value: UInt64) -> String { "0x" + String(value, radix: 16) }
}
