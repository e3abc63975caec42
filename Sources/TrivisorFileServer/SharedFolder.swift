import TrivisorCLinux
import Glibc
import SystemPackage

/// A folder of the host's as a guest is to see it.
public struct SharedFolder: Sendable {
  /// How the host's changes come to be seen.
  public enum Freshness: Sendable {
    /// Within a second.
    case live
    /// Perhaps never: what was seen once is kept, and nothing is written. Nothing fails because of a change.
    case snapshot
  }

  /// A file that is shown in the folder and is not there on the host.
  public struct ExtraFile: Sendable {
    /// One component.
    public var name: String
    /// Made when the guest asks for it first.
    public var contents: @Sendable () -> [UInt8]

    /// Takes both.
    public init(name: String, contents: @escaping @Sendable () -> [UInt8]) {
      self.name = name
      self.contents = contents
    }
  }

  /// On the host.
  public var path: FilePath
  /// Whether nothing may be changed. A snapshot never is.
  public var isReadOnly: Bool
  /// How the host's changes come to be seen.
  public var freshness: Freshness
  /// Whose files are whose.
  public var owners: OwnerMap
  /// Paths on the host that are refused, with all that is below them.
  public var hidden: [FilePath]
  /// Whether the folder is an unpacked image, whose files' owners and modes are `StoredAttributes`, setuid among them: it is the guest's own
  /// system.
  public var hasStoredAttributes = false
  /// Shown in the folder itself.
  public var extraFiles: [ExtraFile] = []

  /// - Parameter hidden: need not be in the folder.
  public init(
    path: FilePath, isReadOnly: Bool = false, freshness: Freshness = .live, owners: OwnerMap = OwnerMap(),
    hidden: [FilePath] = []
  ) {
    self.path = path
    self.isReadOnly = isReadOnly
    self.freshness = freshness
    self.owners = owners
    self.hidden = hidden
  }
}

/// Why a folder can't be served.
public struct SharedFolderFailure: Error, Sendable, Equatable, CustomStringConvertible {
  /// What is wrong with it, a clause.
  public let reason: String
  /// Whether the host lacks what serving any folder needs.
  public let isHosts: Bool

  /// One clause.
  public var description: String { reason }
}
