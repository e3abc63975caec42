import Glibc
import SystemPackage
import TrivisorCLinux

/// Trees by their digests. One appears when it is whole.
struct RootCache {
  let path: FilePath

  init(_ cache: FilePath) { path = cache.appending("trivisor").appending("roots") }

  /// The user's (XDG Base Directory Specification).
  static var userPath: FilePath? {
    if let place = getenv("XDG_CACHE_HOME").map({ String(cString: $0) }), place.hasPrefix("/") {
      return FilePath(place)
    }
    return getenv("HOME").map { FilePath(String(cString: $0)).appending(".cache") }
  }

  /// A tree, made if it is not there.
  /// - Parameter make: fills an empty folder, and says how many things it has left out.
  func tree(
    _ digest: String, _ make: (Int32) throws(ImageArchiveFailure) -> Int
  ) throws(ImageArchiveFailure) -> (FilePath, omissions: Int) {
    let place = path.appending(digest)
    let tree = place.appending("root")
    if let omissions = Self.omissions(of: place) { return (tree, omissions) }
    try Self.makeFolders(path)
    // mkdtemp(3) replaces the last six letters, which must be X.
    let letters = String(repeating: "X", count: 6)
    var template = path.appending(".\(digest.prefix(16))-\(letters)").withPlatformString {
      Array(UnsafeBufferPointer(start: $0, count: strlen($0) + 1))
    }
    guard mkdtemp(&template) != nil else { throw Self.failure("making a folder in", path) }
    let work = FilePath(platformString: template)
    do throws(ImageArchiveFailure) {
      let root = work.appending("root")
      guard root.withPlatformString({ mkdir($0, 0o755) }) == 0 else { throw Self.failure("making", root) }
      let descriptor = root.withPlatformString { open($0, O_RDONLY | O_DIRECTORY | O_CLOEXEC) }
      guard descriptor >= 0 else { throw Self.failure("opening", root) }
      defer { close(descriptor) }
      let omissions = try make(descriptor)
      // Whether the tree is whole is known by this link.
      guard symlink("\(omissions)", work.appending("omissions").string) == 0 else {
        throw Self.failure("writing in", work)
      }
      if work.withPlatformString({ old in place.withPlatformString { rename(old, $0) } }) == 0 {
        return (tree, omissions)
      }
      // Somebody else was faster.
      guard let others = Self.omissions(of: place) else { throw Self.failure("moving into its place", work) }
      Self.removeTree(work)
      return (tree, others)
    } catch {
      Self.removeTree(work)
      throw error
    }
  }

  private static func omissions(of place: FilePath) -> Int? {
    var target = [CChar](repeating: 0, count: 32)
    let count = place.appending("omissions").withPlatformString { readlink($0, &target, target.count) }
    guard count > 0 else { return nil }
    return Int(String(decoding: target[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self))
  }

  private static func failure(_ doing: String, _ path: FilePath) -> ImageArchiveFailure {
    ImageArchiveFailure("the cache for roots can't be used: \(doing) \(path): \(Errno(rawValue: errno))", isHosts: true)
  }

  private static func makeFolders(_ path: FilePath) throws(ImageArchiveFailure) {
    if path.withPlatformString({ mkdir($0, 0o700) }) == 0 || errno == EEXIST { return }
    guard errno == ENOENT, !path.components.isEmpty else { throw failure("making", path) }
    try makeFolders(path.removingLastComponent())
    guard path.withPlatformString({ mkdir($0, 0o700) }) == 0 || errno == EEXIST else { throw failure("making", path) }
  }

  /// Of our own making: nobody else changes it meanwhile.
  private static func removeTree(_ path: FilePath) {
    let parent = path.removingLastComponent().withPlatformString { open($0, O_RDONLY | O_DIRECTORY | O_CLOEXEC) }
    guard parent >= 0, let name = path.lastComponent else { return }
    defer { close(parent) }
    try? TreeBuilder.remove(Array(name.string.utf8), in: parent)
  }
}

extension RootImage {
  /// Where the user's trees are.
  public static var userCache: FilePath? { RootCache.userPath }
}
