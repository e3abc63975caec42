import SystemPackage
import TrivisorCommandChannel
import TrivisorImageArchives
import TrivisorVMM

/// What surrounds a command in a Linux guest.
package struct Workplace: Sendable {
  /// Linux's first root, if it is a folder of the host's.
  package var root: WorkplaceRoot?
  /// Whether the root is an unpacked image, see `StoredAttributes`.
  package private(set) var rootIsImage = false
  /// How many bytes the guest can write to a root whose changes stay in its memory; half of the memory when `nil`.
  package var rootSize: UInt64?
  /// Folders that are mounted before the command begins.
  package var shares: [WorkplaceShare] = []
  /// Network interfaces that are set up before the command begins.
  package var networks: [WorkplaceNetwork] = []
  /// Paths of the host's that no folder shows.
  package var hidden: [FilePath] = []
  /// The kernel's modules: lib/modules/RELEASE, or a folder that holds it; looked for beside the image when `nil`.
  package var modules: FilePath?
  /// The command's folder in the guest; the caller's own if that is in the root, else /, when `nil`.
  package var folder: String?
  /// `NAME=value`, or `NAME` for the caller's own value.
  package var environment: [String] = []
  /// Who runs it, `user[:group]`, by the root's etc/passwd or by number; root when `nil`.
  package var user: String?

  /// The host's busybox, or the archives of the request, as root; nothing else.
  package init() {}

  /// If the root is an archive or an image, unpacks it into the user's cache, and takes what its maker says of running it, where
  /// nothing else is asked for. A command behind the image's entry point is that one's arguments.
  /// - Throws: `WorkplaceRefusal`.
  package mutating func openImage(
    for command: inout CommandOrder.Command?, say: (String) -> Void
  ) throws(WorkplaceRefusal) {
    guard let root, RootImage.isImage(root.path) else { return }
    guard root.way != .writable, root.writable.isEmpty else {
      throw WorkplaceRefusal(
        status: .usage, message: "\(Setting.root): an image can't be written through: unpack it into a folder for that")
    }
    guard let cache = RootImage.userCache else {
      throw WorkplaceRefusal(
        status: .usage, message: "\(Setting.root): there is no place to unpack it: set XDG_CACHE_HOME or HOME")
    }
    let image: RootImage
    do throws(ImageArchiveFailure) {
      image = try RootImage(root.path, cache: cache, say: say)
    } catch {
      throw WorkplaceRefusal(status: error.isHosts ? .host : .usage, message: "\(Setting.root): \(error.description)")
    }
    if image.omissions > 0 {
      say("\(image.omissions) device files of \(root.path) are left out: the guest has its own")
    }
    self.root = WorkplaceRoot(path: image.path, way: root.way)
    rootIsImage = true
    environment = image.configuration.environment + environment
    folder = folder ?? image.configuration.folder
    user = user ?? image.configuration.user
    let entryPoint = image.configuration.entryPoint.map { Array($0.utf8) }
    switch command {
    case .words(let words): command = .words(entryPoint + words)
    case nil:
      let words = entryPoint + image.configuration.command.map { Array($0.utf8) }
      if !words.isEmpty { command = .words(words) }
    case .shell: break
    }
  }
}

/// A folder of the host's as Linux's first root.
package struct WorkplaceRoot: Sendable, Equatable {
  /// What becomes of the guest's changes.
  package enum Way: Sendable, Equatable {
    /// The folder itself; what the guest writes goes to its memory.
    case overlay
    /// The folder itself, written through.
    case writable
    /// A copy in the guest's memory.
    case copy
  }

  package let path: FilePath
  package let way: Way
  /// Folders of it that are written through.
  package let writable: [FilePath]

  package init(path: FilePath, way: Way = .overlay, writable: [FilePath] = []) {
    self.path = path
    self.way = way
    self.writable = writable
  }
}

/// A folder of the host's that the guest's first process mounts.
package struct WorkplaceShare: Sendable, Equatable {
  package let path: FilePath
  /// Where, from the guest's root on.
  package let place: String
  /// By which name a guest mounts it; at most 36 bytes, and no colon.
  package let tag: String
  package let isReadOnly: Bool

  package init(path: FilePath, place: String, tag: String, isReadOnly: Bool) {
    self.path = path
    self.place = place
    self.tag = tag
    self.isReadOnly = isReadOnly
  }
}
