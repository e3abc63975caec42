import Glibc
import SystemPackage
import TrivisorLinuxCommands

/// `--share DIR[,at=PATH][,tag=T][,ro]`.
struct ShareArgument: Equatable {
  /// Bytes of a tag, as virtio has room for it.
  private static let tagLength = 36

  let share: WorkplaceShare

  init(parsing argument: String) throws(InvalidArgument) {
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
    guard !options.rest.isEmpty else { throw InvalidArgument("it names no folder: give one in front of the comma") }
    let path = FilePath(options.rest)
    let name = Self.name(of: path)
    share = WorkplaceShare(
      path: path, place: place ?? "/mnt/\(name)",
      tag: tag ?? String(decoding: Array(name.utf8.prefix(Self.tagLength)), as: UTF8.self), isReadOnly: isReadOnly)
    guard share.place.hasPrefix("/") else {
      throw InvalidArgument("the guest has no place '\(share.place)': give a path from its root on, at=/…")
    }
    // A colon would end it where the guest's first process is told of it.
    guard !share.tag.isEmpty, share.tag.utf8.count <= Self.tagLength, !share.tag.contains(":") else {
      throw InvalidArgument("the tag '\(share.tag)' can't be had: give 1 to \(Self.tagLength) bytes without a colon")
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
struct RootArgument: Equatable {
  let root: WorkplaceRoot
  /// As it was given.
  let text: String

  init(parsing argument: String) throws(InvalidArgument) {
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
    guard !options.rest.isEmpty else {
      throw InvalidArgument("it names neither a folder nor an image: give one in front of the comma")
    }
    text = argument
    root = WorkplaceRoot(path: FilePath(options.rest), way: way, writable: writable.reversed())
  }
}

/// Why an option's value can't be.
struct InvalidArgument: Error, CustomStringConvertible {
  /// What is wrong, and what to do about it: a clause.
  let description: String

  init(_ description: String) { self.description = description }
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
