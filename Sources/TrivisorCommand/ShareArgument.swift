import Glibc
import SystemPackage
import TrivisorLinuxCommands
import TrivisorVMM

/// `--share DIR[,at=PATH][,tag=T][,ro]`.
struct ShareArgument {
  /// Bytes of a tag, as virtio has room for it.
  private static let tagLength = 36
  private static let vocabulary = TrailingWords.Vocabulary(["ro", "rw", "at=", "tag="], alternatives: ["ro", "rw"])

  let share: WorkplaceShare
  private let words: TrailingWords

  /// A folder that is not there may be a mistyped word.
  static func share(_ text: String) throws(Refusal) -> WorkplaceShare {
    let argument = try Refusal.of("--share") { () throws(InvalidArgument) in try ShareArgument(parsing: text) }
    try argument.words.refuseUnknown(at: argument.share.path, option: "--share")
    return argument.share
  }

  init(parsing argument: String) throws(InvalidArgument) {
    words = try InvalidArgument.named { () throws(TrailingWords.Failure) in try TrailingWords(argument, Self.vocabulary)
    }
    guard !words.rest.isEmpty else { throw InvalidArgument("it names no folder: give one in front of the comma") }
    let path = FilePath(words.rest)
    let name = Self.name(of: path)
    share = WorkplaceShare(
      path: path, place: words.value("at=") ?? "/mnt/\(name)",
      tag: words.value("tag=") ?? String(decoding: Array(name.utf8.prefix(Self.tagLength)), as: UTF8.self),
      isReadOnly: words.has("ro"))
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
struct RootArgument {
  let root: WorkplaceRoot
  private let words: TrailingWords

  private static let vocabulary = TrailingWords.Vocabulary(
    ["rw", "copy", "rw="], repeatable: ["rw="], alternatives: ["rw", "copy"])

  /// What is not there may be a mistyped word.
  static func root(_ text: String) throws(Refusal) -> WorkplaceRoot {
    let argument = try Refusal.of("--root") { () throws(InvalidArgument) in try RootArgument(parsing: text) }
    try argument.words.refuseUnknown(at: argument.root.path, option: "--root")
    return argument.root
  }

  init(parsing argument: String) throws(InvalidArgument) {
    words = try InvalidArgument.named { () throws(TrailingWords.Failure) in try TrailingWords(argument, Self.vocabulary)
    }
    guard !words.rest.isEmpty else {
      throw InvalidArgument("it names neither a folder nor an image: give one in front of the comma")
    }
    root = WorkplaceRoot(
      path: FilePath(words.rest), way: words.has("rw") ? .writable : words.has("copy") ? .copy : .overlay,
      writable: words.values("rw=").map { FilePath($0) })
  }
}

/// Why an option's value can't be.
struct InvalidArgument: Error, CustomStringConvertible {
  /// What is wrong, and what to do about it: a clause.
  let description: String

  init(_ description: String) { self.description = description }

  /// With what is wrong with words behind commas.
  static func named<Result>(_ body: () throws(TrailingWords.Failure) -> Result) throws(InvalidArgument) -> Result {
    do throws(TrailingWords.Failure) {
      return try body()
    } catch {
      throw InvalidArgument(error.description)
    }
  }
}

extension Refusal {
  /// With what is wrong with an option's value.
  static func of<Result>(_ option: String, _ body: () throws(InvalidArgument) -> Result) throws(Refusal) -> Result {
    do throws(InvalidArgument) {
      return try body()
    } catch {
      throw Refusal(status: .usage, message: "\(option): \(error)")
    }
  }
}

extension TrailingWords {
  /// Where nothing has the name in front of the known words.
  func refuseUnknown(at path: FilePath, option: String) throws(Refusal) {
    guard access(path.string, F_OK) != 0 else { return }
    do throws(Failure) {
      try refuseUnknown()
    } catch {
      throw Refusal(status: .usage, message: "\(option): \(error)")
    }
  }
}
