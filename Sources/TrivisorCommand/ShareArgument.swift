import ArgumentParser
import Glibc
import SystemPackage

/// `--share DIR[,at=PATH][,tag=T][,ro]`.
struct ShareArgument: ExpressibleByArgument, Equatable {
  let path: FilePath
  /// Where the guest's first process mounts it.
  let place: String
  /// By which name a guest mounts it.
  let tag: String
  let isReadOnly: Bool

  init?(argument: String) {
    var options = TrailingOptions(argument)
    var (place, tag): (String?, String?)
    var isReadOnly = false
    while let option = options.takeLast({ ["ro", "rw"].contains($0) || $0.hasPrefix("at=") || $0.hasPrefix("tag=") }) {
      switch option {
      case "ro": isReadOnly = true
      case "rw": isReadOnly = false
      case _ where option.hasPrefix("at="): place = String(option.dropFirst(3))
      default: tag = String(option.dropFirst(4))
      }
    }
    guard !options.rest.isEmpty else { return nil }
    path = FilePath(options.rest)
    self.isReadOnly = isReadOnly
    let name = Self.name(of: path)
    self.tag = tag ?? String(decoding: Array(name.utf8.prefix(36)), as: UTF8.self)
    self.place = place ?? "/mnt/\(name)"
    // A colon would end it where the guest's first process is told of it.
    guard !self.tag.isEmpty, self.tag.utf8.count <= 36, !self.tag.contains(":"), self.place.hasPrefix("/") else {
      return nil
    }
  }

  /// The folder's own name, as it really is.
  private static func name(of path: FilePath) -> String {
    guard let real = path.withPlatformString({ realpath($0, nil) }) else {
      return path.lastComponent?.string ?? "share"
    }
    defer { free(real) }
    let name = FilePath(platformString: real).lastComponent?.string ?? "root"
    return name.contains(":") ? "share" : name
  }
}

/// `--root DIR[,rw|,copy|,rw=PATH]`, or an archive.
struct RootArgument: ExpressibleByArgument, Equatable {
  enum Way: Equatable {
    /// The folder itself; what the guest writes goes to its memory.
    case overlay
    /// The folder itself, written through.
    case writable
    /// A copy in the guest's memory.
    case copy
  }

  let path: FilePath
  let way: Way
  /// Folders of it that are written through.
  let writable: [FilePath]

  init?(argument: String) {
    var options = TrailingOptions(argument)
    var way = Way.overlay
    var writable: [FilePath] = []
    while let option = options.takeLast({ ["rw", "copy"].contains($0) || $0.hasPrefix("rw=") }) {
      switch option {
      case "rw": way = .writable
      case "copy": way = .copy
      default: writable.append(FilePath(String(option.dropFirst(3))))
      }
    }
    guard !options.rest.isEmpty else { return nil }
    path = FilePath(options.rest)
    self.way = way
    self.writable = writable.reversed()
  }
}

/// What stands behind commas at the end of a path, which may hold commas itself.
struct TrailingOptions {
  private(set) var rest: String

  init(_ text: String) { rest = text }

  /// The last option, if it is one.
  mutating func takeLast(_ isOption: (String) -> Bool) -> String? {
    guard let comma = rest.lastIndex(of: ",") else { return nil }
    let word = String(rest[rest.index(after: comma)...])
    guard isOption(word) else { return nil }
    rest = String(rest[..<comma])
    return word
  }
}
