import TrivisorBoot
import SystemPackage

/// The options by which a kernel was made (.config).
package struct KernelConfiguration: Sendable {
  enum Value: Sendable {
    case builtIn, module, absent
  }

  private let values: [String: Value]

  /// Looks beside the image, beside and in the folder of modules, and in a build tree.
  init?(image: FilePath?, release: String?, modules: ModuleFolder?) {
    var places: [FilePath] = []
    if let release, let image {
      let folder = image.removingLastComponent()
      places.append((folder.isEmpty ? "." : folder).appending("config-\(release)"))
    }
    if let modules {
      places += [modules.path.appending("config"), modules.path.appending(".config")]
      // lib/modules/RELEASE of an unpacked package, beside boot.
      var top = modules.path
      for _ in 0..<3 { top.removeLastComponent() }
      places.append(top.appending("boot/config-\(modules.release)"))
    }
    for place in places {
      if let file = try? BootImage(path: place), let text = try? PackedFile.contents(file, limit: 4 << 20) {
        self.init(text)
        return
      }
    }
    return nil
  }

  /// - Parameter text: `CONFIG_NAME=y`, `=m`, or `# CONFIG_NAME is not set`, a line each.
  package init(_ text: some Collection<UInt8>) {
    var values: [String: Value] = [:]
    for line in text.split(separator: UInt8(ascii: "\n")) {
      let line = String(decoding: Array(line), as: UTF8.self)
      guard line.hasPrefix("CONFIG_"), let equals = line.firstIndex(of: "=") else { continue }
      let name = String(line[..<equals].dropFirst(7))
      switch line[line.index(after: equals)...] {
      case "y": values[name] = .builtIn
      case "m": values[name] = .module
      default: break
      }
    }
    self.values = values
  }

  /// What an option is. Some that depend on others which are off are not in the text at all.
  subscript(_ option: String) -> Value { values[option] ?? .absent }
}
