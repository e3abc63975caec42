// The list of tests that a project checks in, as JSON (docs/testing.md describes each member).
//
//     { "version": 1,
//       "defaults": { "timeout": "20s", "techniques": ["rewriting"] },
//       "tests": [
//         { "name": "boots", "image": "build/kernel.elf", "expect": { "output": "^ready$" } },
//         { "image": "build/selftest.elf", "append": "quick", "expect": { "tap": true } } ] }
//
// A member that nobody knows is an error: a misspelled one must not be a test that tests nothing.

/// A manifest that can't be used.
public struct ManifestFailure: Error, Sendable, CustomStringConvertible {
  /// One sentence: which file, where in it, what.
  public let description: String
}

/// What a manifest says of a test, or of all of them.
struct ManifestEntry: Decodable {
  private enum Key: String, CodingKey, CaseIterable {
    case name, image, techniques, timeout, kind, cpu, cpus, memory, append, root, initrd, module, disk, exec, arguments
    case expect
  }

  var name: String?
  var image: String?
  var techniques: [String]?
  var timeout: String?
  /// Options of `trivisor run` with one value each.
  var options: [(name: String, value: String)] = []
  /// The folder that a Linux guest has for its root.
  var root: String?
  /// Options whose value, or its beginning, is a file.
  var files: [(name: String, value: String)] = []
  /// The command that a Linux guest is to run.
  var command: GuestCommand?
  /// More words for `trivisor run`.
  var arguments: [String]?
  var expect: ManifestExpectation?

  init() {}

  init(from decoder: any Decoder) throws {
    try Manifest.refuseUnknownMembers(decoder, known: Key.allCases.map(\.rawValue))
    let container = try decoder.container(keyedBy: Key.self)
    name = try container.decodeIfPresent(String.self, forKey: .name)
    image = try container.decodeIfPresent(String.self, forKey: .image)
    techniques = try container.decodeIfPresent([String].self, forKey: .techniques)
    timeout = try container.decodeIfPresent(String.self, forKey: .timeout)
    command = try container.decodeIfPresent(GuestCommand.self, forKey: .exec)
    arguments = try container.decodeIfPresent([String].self, forKey: .arguments)
    expect = try container.decodeIfPresent(ManifestExpectation.self, forKey: .expect)
    for key in [Key.kind, .cpu, .memory, .append] {
      if let value = try container.decodeIfPresent(String.self, forKey: key) { options.append((key.rawValue, value)) }
    }
    if let count = try container.decodeIfPresent(Int.self, forKey: .cpus) { options.append(("cpus", "\(count)")) }
    root = try container.decodeIfPresent(String.self, forKey: .root)
    for key in [Key.initrd, .module, .disk] {
      let values = try container.decodeIfPresent([String].self, forKey: key) ?? []
      files += values.map { (key.rawValue, $0) }
    }
  }
}

/// A command as a manifest has it: a text for the guest's shell, or a list of words, the program first.
enum GuestCommand: Decodable {
  case shell(String)
  case program([String])

  init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    if let text = try? container.decode(String.self) {
      self = .shell(text)
      return
    }
    guard let words = try? container.decode([String].self), let program = words.first, !program.isEmpty else {
      throw DecodingError.dataCorruptedError(
        in: container,
        debugDescription: "is no command: a text for the guest's shell, or a list of words, the program first")
    }
    self = .program(words)
  }
}

/// What a manifest says a guest must do.
struct ManifestExpectation: Decodable {
  private enum Key: String, CodingKey, CaseIterable {
    case outcome, exitCode, output, forbiddenOutput, endWithOutput, tap
  }

  var expectation = Expectation()

  init(from decoder: any Decoder) throws {
    try Manifest.refuseUnknownMembers(decoder, known: Key.allCases.map(\.rawValue))
    let container = try decoder.container(keyedBy: Key.self)
    expectation.outcome = try container.decodeIfPresent(String.self, forKey: .outcome)
    if let code = try container.decodeIfPresent(Int.self, forKey: .exitCode) {
      guard let code = UInt8(exactly: code) else {
        throw DecodingError.dataCorruptedError(
          forKey: .exitCode, in: container, debugDescription: "\(code) is no exit code: 0 to 255")
      }
      expectation.exitCode = code
    }
    expectation.output = try container.decodeIfPresent(String.self, forKey: .output)
    expectation.forbiddenOutput = try container.decodeIfPresent(String.self, forKey: .forbiddenOutput)
    expectation.endsWithOutput = try container.decodeIfPresent(Bool.self, forKey: .endWithOutput) ?? false
    expectation.tap = try container.decodeIfPresent(Bool.self, forKey: .tap) ?? false
    guard !expectation.endsWithOutput || expectation.output != nil else {
      throw DecodingError.dataCorruptedError(
        forKey: .endWithOutput, in: container, debugDescription: "there is no 'output' to end with")
    }
  }
}

/// The file as a whole.
struct Manifest: Decodable {
  private enum Key: String, CodingKey, CaseIterable {
    case version, defaults, tests
  }

  private struct AnyKey: CodingKey {
    let stringValue: String
    let intValue: Int? = nil
    init?(stringValue: String) { self.stringValue = stringValue }
    init?(intValue: Int) { return nil }
  }

  let defaults: ManifestEntry
  let tests: [ManifestEntry]

  init(from decoder: any Decoder) throws {
    try Self.refuseUnknownMembers(decoder, known: Key.allCases.map(\.rawValue))
    let container = try decoder.container(keyedBy: Key.self)
    let version = try container.decode(Int.self, forKey: .version)
    guard version == 1 else {
      throw DecodingError.dataCorruptedError(
        forKey: .version, in: container, debugDescription: "version \(version) is not known; there is 1")
    }
    defaults = try container.decodeIfPresent(ManifestEntry.self, forKey: .defaults) ?? ManifestEntry()
    tests = try container.decode([ManifestEntry].self, forKey: .tests)
  }

  static func refuseUnknownMembers(_ decoder: any Decoder, known: [String]) throws {
    for key in try decoder.container(keyedBy: AnyKey.self).allKeys where !known.contains(key.stringValue) {
      throw DecodingError.dataCorrupted(
        .init(
          codingPath: decoder.codingPath,
          debugDescription: "there is no member '\(key.stringValue)'; there are \(known.joined(separator: ", "))"))
    }
  }
}
