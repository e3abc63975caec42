import FoundationEssentials
import SystemPackage

extension TestCase {
  /// The tests of a manifest, in its order; one that names several techniques is several tests.
  /// - Parameters:
  ///   - path: the manifest; paths in it are relative to its folder.
  ///   - techniques: instead of those that the manifest names, if there are any.
  ///   - timeLimit: nanoseconds, where the manifest gives none.
  ///   - parseTime: what a time limit as people type it is in nanoseconds.
  /// - Throws: `ManifestFailure`.
  public static func ofManifest(
    at path: FilePath, techniques: [String], timeLimit: UInt64, parseTime: (String) -> UInt64?
  ) throws(ManifestFailure) -> [TestCase] {
    let manifest: Manifest
    do {
      let bytes = try Data(contentsOf: URL(filePath: path.string))
      manifest = try JSONDecoder().decode(Manifest.self, from: bytes)
    } catch let error as DecodingError {
      throw ManifestFailure(description: "\(path): \(Self.explain(error))")
    } catch {
      throw ManifestFailure(description: "\(path) can't be read: it is not there, or not readable")
    }
    let folder = path.removingLastComponent()
    var cases: [TestCase] = []
    for (index, entry) in manifest.tests.enumerated() {
      let place = "\(path): test \(index + 1)"
      guard let image = entry.image ?? manifest.defaults.image else {
        throw ManifestFailure(description: "\(place) names no image")
      }
      var limit = timeLimit
      if let text = entry.timeout ?? manifest.defaults.timeout {
        guard let value = parseTime(text) else {
          throw ManifestFailure(description: "\(place): '\(text)' is no time limit: 30s, 500ms, 5m")
        }
        limit = value
      }
      let named = entry.techniques ?? manifest.defaults.techniques ?? []
      let chosen = techniques.isEmpty ? named : techniques
      var words = [Self.located(image, in: folder)]
      for (name, value) in manifest.defaults.options where !entry.options.contains(where: { $0.name == name }) {
        words += ["--\(name)=\(value)"]
      }
      words += entry.options.map { "--\($0.name)=\($0.value)" }
      let files = manifest.defaults.files + entry.files
      words += files.map { "--\($0.name)=\(Self.located($0.value, in: folder))" }
      if let root = entry.root ?? manifest.defaults.root { words.append("--root=\(Self.located(root, in: folder))") }
      let arguments = (manifest.defaults.arguments ?? []) + (entry.arguments ?? [])
      words += arguments
      switch entry.command ?? manifest.defaults.command {
      case nil: break
      case _? where arguments.contains("--"):
        throw ManifestFailure(description: "\(place) has a command in 'exec' and another behind -- in 'arguments'")
      case .shell(let text)?: words.append("--exec=\(text)")
      case .program(let command)?: words += ["--"] + command
      }
      let name = entry.name ?? image
      for technique in chosen.isEmpty ? [nil] : chosen.map(Optional.some) {
        var test = TestCase(
          name: chosen.count > 1 ? "\(name) [\(technique ?? "")]" : name, runArguments: words, timeLimit: limit,
          expectation: (entry.expect ?? manifest.defaults.expect)?.expectation ?? Expectation())
        test.addOptions(technique.map { ["--technique=\($0)"] } ?? [])
        cases.append(test)
      }
    }
    return cases
  }

  /// Gives tests of the same name numbers, so that each has its own line and its own artifact.
  public static func withUniqueNames(_ cases: [TestCase]) -> [TestCase] {
    var counts: [String: Int] = [:]
    var taken = Set(cases.map(\.name))
    return cases.map { test in
      counts[test.name, default: 0] += 1
      guard var count = counts[test.name], count > 1 else { return test }
      var renamed = test
      repeat {
        renamed.name = "\(test.name) #\(count)"
        count += 1
      } while !taken.insert(renamed.name).inserted
      return renamed
    }
  }

  private static func located(_ path: String, in folder: FilePath) -> String {
    path.hasPrefix("guest:") || path.hasPrefix("/") || folder.isEmpty ? path : folder.appending(path).string
  }

  private static func explain(_ error: DecodingError) -> String {
    func place(_ path: [any CodingKey]) -> String {
      guard !path.isEmpty else { return "" }
      return path.map { $0.intValue.map { "[\($0)]" } ?? $0.stringValue }.joined(separator: ".") + ": "
    }
    switch error {
    case .typeMismatch(let type, let context): return place(context.codingPath) + "is no \(type)"
    case .valueNotFound(_, let context): return place(context.codingPath) + "has no value"
    case .keyNotFound(let key, let context): return place(context.codingPath) + "'\(key.stringValue)' is missing"
    case .dataCorrupted(let context): return place(context.codingPath) + context.debugDescription
    @unknown default: return "is no manifest"
    }
  }
}
