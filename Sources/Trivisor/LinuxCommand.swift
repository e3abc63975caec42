import TrivisorCommandChannel
import TrivisorLinuxCommands

/// One command for a Linux guest to run, in the place of its own first process: the run ends with it.
///
/// Without a root and without an initial ramdisk, the guest's root is the host's static busybox.
public struct LinuxCommand: Sendable {
  /// A folder of the host's as the guest's root.
  public struct Root: Sendable, Equatable {
    /// What becomes of the guest's changes.
    public enum Changes: Sendable, Equatable {
      /// They go to the guest's memory: at most so many bytes, or half of the memory.
      case stayInMemory(limit: ByteCount? = nil)
      /// They go to the folder.
      case writeThrough
      /// The guest has a copy of the folder in its memory.
      case copy
    }

    /// On the host.
    public var path: FilePath
    /// What becomes of the guest's changes.
    public var changes: Changes
    /// Folders in it that are written through.
    public var writable: [FilePath] = []

    /// - Parameter changes: what becomes of the guest's.
    public init(path: FilePath, changes: Changes = .stayInMemory()) {
      self.path = path
      self.changes = changes
    }
  }

  private let command: CommandOrder.Command

  /// The guest's root; `nil` for the boot loader's archives, or the host's busybox.
  public var root: Root?
  /// Beside PATH, HOME, USER, LOGNAME and TERM, or in their places.
  public var environment: [String: String] = [:]
  /// Where it begins, from the guest's root on.
  public var workingDirectory: String?
  /// `user[:group]`, by the root's etc/passwd or by number; root when `nil`.
  public var user: String?
  /// The kernel's modules: lib/modules/RELEASE, or a folder that holds it; looked for beside the kernel when `nil`.
  public var modules: FilePath?
  /// At its end at once when `nil`.
  public var standardInput: InputAttachment?
  /// A guest whose reader lags waits for it.
  public var standardOutput = OutputAttachment.discarded
  /// Likewise.
  public var standardError = OutputAttachment.discarded

  /// A program, found as execvp(3) finds it, and its arguments.
  public init(_ words: [String]) { self.init(words: words.map { Array($0.utf8) }) }

  init(words: [[UInt8]]) { command = .words(words) }

  /// A text for the root's shell.
  public init(shell text: String) { command = .shell(text) }

  var order: CommandOrder.Command { command }

  func workplace(sharing devices: [DirectorySharingDeviceConfiguration]) -> Workplace {
    var workplace = Workplace()
    if let root {
      let way: WorkplaceRoot.Way =
        switch root.changes {
        case .stayInMemory: .overlay
        case .writeThrough: .writable
        case .copy: .copy
        }
      workplace.root = WorkplaceRoot(path: root.path, way: way, writable: root.writable)
      if case .stayInMemory(let limit) = root.changes { workplace.rootSize = limit?.bytes }
    }
    workplace.shares = devices.map { device in
      WorkplaceShare(
        path: device.path, place: device.mountPoint ?? "/mnt/\(device.tag)", tag: device.tag,
        isReadOnly: device.isReadOnly)
    }
    workplace.modules = modules
    workplace.folder = workingDirectory
    workplace.environment = environment.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
    workplace.user = user
    return workplace
  }
}
