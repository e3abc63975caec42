import ArgumentParser
import Glibc
import SystemPackage
import TrivisorLinuxCommands

/// `--share DIR[,at=PATH][,tag=T][,ro]`.
struct ShareArgument: ExpressibleByArgument, Equatable {
  let share: WorkplaceShare

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
    let path = FilePath(options.rest)
    let name = Self.name(of: path)
    share = WorkplaceShare(
      path: path, place: place ?? "/mnt/\(name)",
      tag: tag ?? String(decoding: Array(name.utf8.prefix(36)), as: UTF8.self), isReadOnly: isReadOnly)
    // A colon would end it where the guest's first process is told of it.
    guard !share.tag.isEmpty, share.tag.utf8.count <= 36, !share.tag.contains(":"), share.place.hasPrefix("/") else {
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
  let root: WorkplaceRoot
  /// As it was given.
  let text: String

  init?(argument: String) {
    var options = TrailingOptions(argument)
    var way = WorkplaceRoot.Way.overlay
    var writable: [FilePath] = []
    while let option = options.takeLast({ ["rw", "copy"].contains($0) || $0.hasPrefix("rw=") }) {
      switch option {
      case "rw": way = .writable
      case "copy": way = .copy
      default: writable.append(FilePath(String(option.dropFirst(3))))
      }
    }
    guard !options.rest.isEmpty else { return nil }
    text = argument
    root = WorkplaceRoot(path: FilePath(options.rest), way: way, writable: writable.reversed())
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
