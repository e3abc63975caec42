import Glibc

/// A file or folder that the guest's kernel knows: a name in a folder that it knows, too, and which file it was there.
final class FileNode {
  /// How many there are, of a server.
  final class Count {
    var value = 0
  }

  /// What stands behind a node.
  enum Backing {
    /// A name in its parent's folder.
    case host
    /// A descriptor that the share brought along: it stays open.
    case fixed
    /// A mount point, or a hidden folder, of which nothing is shown.
    case closed
  }

  /// The guest's name for it.
  let number: UInt64
  /// S_IFREG and so on: what the guest's kernel has been told, and never changes.
  let kind: UInt32
  let backing: Backing
  var identity: FileIdentity
  var parent: FileNode?
  var name: FileName?
  /// How often the guest's kernel was told of it without forgetting it.
  var lookups: UInt64 = 0
  /// With O_PATH; negative while it is not open.
  var descriptor: Int32 = -1
  /// Where it is in the cache of descriptors; negative where it is not.
  var slot = -1
  /// Whether it was used since the cache looked for something to close.
  var isWarm = false
  /// While this is not zero, the descriptor stays.
  var pins = 0
  /// What the guest has opened of it.
  var handles: [UInt64] = []
  /// What is hidden below it.
  var hidden: HiddenPaths?
  /// The file's times and size when its contents were last cached.
  var version: FileVersion?
  private let count: Count

  init(_ number: UInt64, _ status: stat, backing: Backing, parent: FileNode?, name: FileName?, count: Count) {
    self.number = number
    self.backing = backing
    self.parent = parent
    self.name = name
    self.count = count
    kind = status.kind
    identity = FileIdentity(status)
    count.value += 1
  }

  deinit {
    if descriptor >= 0 { close(descriptor) }
    count.value -= 1
    // One after the other: a chain of folders may be longer than a stack is deep.
    var above = parent
    parent = nil
    while isKnownUniquelyReferenced(&above) {
      let next = above?.parent
      above?.parent = nil
      above = next
    }
  }
}

/// By which a change of a file's contents is known.
struct FileVersion: Equatable {
  let size: Int
  let seconds: Int
  let nanoseconds: Int

  init(_ status: stat) {
    size = Int(status.st_size)
    seconds = status.st_mtim.tv_sec
    nanoseconds = status.st_mtim.tv_nsec
  }
}

/// Names that are refused, as a tree from a folder down.
final class HiddenPaths {
  /// This one is refused itself.
  var isHidden = false
  var below: [FileName: HiddenPaths] = [:]

  func add(_ path: ArraySlice<FileName>) {
    guard let first = path.first else {
      isHidden = true
      return
    }
    let next = below[first] ?? HiddenPaths()
    below[first] = next
    next.add(path.dropFirst())
  }
}
