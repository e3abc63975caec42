import Glibc
import SystemPackage
import TrivisorVMM

/// Gathers the entries of an archive for Linux's first root.
public struct InitialArchiveBuilder {
  /// What could not be packed.
  public struct Omission: Sendable {
    /// On the host.
    public let path: String
    /// Why not.
    public let reason: String
  }

  /// What a folder held.
  public struct Summary: Sendable {
    /// Entries of all kinds.
    public internal(set) var entries = 0
    /// Bytes of files.
    public internal(set) var contents: UInt64 = 0
    /// What it takes to unpack it, its archive included.
    public internal(set) var demand = RootDemand()
    /// Whether nobody stopped it before its end.
    public internal(set) var isComplete = true
    /// What is missing of it.
    public internal(set) var omissions: [Omission] = []
  }

  /// No cpio entry can be larger.
  private static let fileLimit: UInt64 = 0xffff_ffff

  private struct FileIdentity: Hashable {
    let device: UInt
    let inode: UInt
  }

  /// What an entry's header says (all of it but magic, name and check).
  private struct Attributes {
    var mode: UInt32
    var owner: UInt32 = 0
    var group: UInt32 = 0
    var links: UInt32 = 1
    var time: UInt32 = 0
    var device: (major: UInt32, minor: UInt32) = (0, 0)
    var inode: UInt32?
  }

  private var entries: [InitialArchive.Entry] = []
  private var size: UInt64 = 0
  private var inodes: UInt32 = 0
  /// Files with several names that have been met, and their number in the archive.
  private var linked: [FileIdentity: UInt32] = [:]

  /// Empty.
  public init() {}

  /// Adds a directory.
  public mutating func addDirectory(_ name: String, mode: UInt32 = 0o755) {
    add(Array(name.utf8), Attributes(mode: S_IFDIR | mode, links: 2), .none, size: 0)
  }

  /// Adds a file.
  public mutating func addFile(_ name: String, _ contents: [UInt8], mode: UInt32 = 0o644) {
    add(Array(name.utf8), Attributes(mode: S_IFREG | mode), .bytes(contents), size: UInt64(contents.count))
  }

  /// Adds a file of the host's, as large as it is now.
  /// - Throws: `BootFailure` when there is no such file.
  public mutating func addHostFile(_ name: String, at path: FilePath, mode: UInt32) throws(BootFailure) {
    let image = try BootImage(path: path)
    let words = path.withPlatformString { Array(UnsafeBufferPointer(start: $0, count: strlen($0) + 1)) }
    add(Array(name.utf8), Attributes(mode: S_IFREG | mode), .file(words), size: image.size)
  }

  /// Adds a character device.
  public mutating func addCharacterDevice(_ name: String, major: UInt32, minor: UInt32, mode: UInt32 = 0o600) {
    add(Array(name.utf8), Attributes(mode: S_IFCHR | mode, device: (major, minor)), .none, size: 0)
  }

  /// Adds everything below a folder of the host's: files, with their hard links, symbolic links, devices, pipes and sockets,
  /// with modes, owners and times; of other file systems that are mounted in it, the mount points alone.
  /// - Parameters:
  ///   - adjust: makes the attributes of a file, by its path, those that the guest is to see.
  ///   - fits: asked now and then whether to go on.
  /// - Throws: `BootFailure` when there is no such folder.
  public mutating func addFolder(
    _ path: FilePath, while fits: (RootDemand) -> Bool = { _ in true },
    adjusting adjust: ((UnsafePointer<CChar>, inout stat) -> Void)? = nil
  ) throws(BootFailure) -> Summary {
    var root = path.withPlatformString { Array(UnsafeBufferPointer(start: $0, count: strlen($0))) }
    while root.count > 1, root.last == CChar(UInt8(ascii: "/")) { root.removeLast() }
    var status = stat()
    guard stat(root + [0], &status) == 0 else {
      let error = Errno(rawValue: errno)
      guard error == .noSuchFileOrDirectory else { throw BootFailure(path.string, .cannotOpen(error)) }
      throw BootFailure(
        path.string,
        .unsupported("there is no such folder", remedy: "set \(Setting.root) to the folder that is to be the root"))
    }
    guard status.st_mode & S_IFMT == S_IFDIR else {
      throw BootFailure(
        path.string, .unsupported("is no folder", remedy: "set \(Setting.root) to the folder that is to be the root"))
    }
    let fileSystem = status.st_dev
    var summary = Summary()
    // Folders that are still to be read: their path on the host and their name in the archive.
    var waiting: [(path: [CChar], name: [UInt8])] = [(root, [])]
    let before = size
    while let folder = waiting.popLast() {
      summary.demand.archives = size - before
      guard fits(summary.demand) else {
        summary.isComplete = false
        return summary
      }
      guard let names = Self.names(in: folder.path) else {
        summary.omissions.append(Self.omission(folder.path))
        continue
      }
      var folders: [(path: [CChar], name: [UInt8])] = []
      for name in names {
        let path = folder.path + [CChar(UInt8(ascii: "/"))] + name.map { CChar(bitPattern: $0) }
        let inner = folder.name.isEmpty ? name : folder.name + [UInt8(ascii: "/")] + name
        var status = stat()
        guard lstat(path + [0], &status) == 0 else {
          summary.omissions.append(Self.omission(path))
          continue
        }
        if let adjust {
          (path + [0]).withUnsafeBufferPointer { path in
            if let start = path.baseAddress { adjust(start, &status) }
          }
        }
        guard add(path, inner, status, &summary) else { continue }
        if status.st_mode & S_IFMT == S_IFDIR, status.st_dev == fileSystem { folders.append((path, inner)) }
      }
      waiting += folders.reversed()
    }
    summary.demand.archives = size - before
    summary.isComplete = fits(summary.demand)
    return summary
  }

  /// The archive.
  /// - Parameter whenRead: told how far it has been read.
  public consuming func finish(whenRead: (@Sendable (UInt64) -> Void)? = nil) -> InitialArchive {
    add(Array("TRAILER!!!".utf8), Attributes(mode: 0, inode: 0), .none, size: 0)
    return InitialArchive(entries, size: size, whenRead: whenRead)
  }

  /// Adds what was found at a path.
  /// - Returns: whether it could be added.
  private mutating func add(_ path: [CChar], _ name: [UInt8], _ status: stat, _ summary: inout Summary) -> Bool {
    var attributes = Attributes(
      mode: status.st_mode, owner: status.st_uid, group: status.st_gid,
      time: UInt32(clamping: status.st_mtim.tv_sec))
    var contents = InitialArchive.Entry.Contents.none
    var size: UInt64 = 0
    switch status.st_mode & S_IFMT {
    case S_IFREG:
      guard UInt64(clamping: status.st_size) <= Self.fileLimit else {
        summary.omissions.append(Self.omission(path, "is larger than 4 GiB, more than an archive's entry can be"))
        return false
      }
      guard access(path + [0], R_OK) == 0 else {
        summary.omissions.append(Self.omission(path))
        return false
      }
      var isFirst = true
      if status.st_nlink > 1 {
        let identity = FileIdentity(device: UInt(status.st_dev), inode: UInt(status.st_ino))
        attributes.links = UInt32(clamping: status.st_nlink)
        isFirst = linked[identity] == nil
        if isFirst { linked[identity] = inodes + 1 }
        attributes.inode = linked[identity]
      }
      // The first name has the contents; the kernel makes the others links to it.
      if isFirst {
        size = UInt64(status.st_size)
        contents = .file(path + [0])
      }
    case S_IFLNK:
      var target = [CChar](repeating: 0, count: 4097)
      let count = readlink(path + [0], &target, target.count)
      guard count >= 0 else {
        summary.omissions.append(Self.omission(path))
        return false
      }
      contents = .bytes(target[..<count].map { UInt8(bitPattern: $0) })
      size = UInt64(count)
    case S_IFDIR: attributes.links = 2
    case S_IFCHR, S_IFBLK:
      // As glibc's gnu_dev_major and gnu_dev_minor take a device number apart.
      let device = UInt64(status.st_rdev)
      attributes.device = (
        UInt32(truncatingIfNeeded: device >> 8 & 0xfff | device >> 32 & ~0xfff),
        UInt32(truncatingIfNeeded: device & 0xff | device >> 12 & ~0xff)
      )
    default: break
    }
    summary.entries += 1
    summary.contents += size
    summary.demand.add(contents: size)
    add(name, attributes, contents, size: size)
    return true
  }

  private mutating func add(
    _ name: [UInt8], _ attributes: Attributes, _ contents: InitialArchive.Entry.Contents, size contentSize: UInt64
  ) {
    inodes += 1
    let device = attributes.device
    let fields: [UInt32] = [
      attributes.inode ?? inodes, attributes.mode, attributes.owner, attributes.group, attributes.links,
      attributes.time,
      UInt32(clamping: contentSize), 0, 0, device.major, device.minor, UInt32(clamping: name.count + 1), 0,
    ]
    var head = Array("070701".utf8)
    head.reserveCapacity(120 + name.count)
    for field in fields {
      for shift in stride(from: 28, through: 0, by: -4) {
        let digit = UInt8(truncatingIfNeeded: field >> UInt32(shift)) & 15
        head.append(digit < 10 ? 0x30 + digit : 0x37 + digit)
      }
    }
    head += name + [0]
    while head.count % 4 != 0 { head.append(0) }
    entries.append(InitialArchive.Entry(offset: size, head: head, contents: contents, size: contentSize))
    size += UInt64(head.count) + (contentSize + 3) & ~3
  }

  /// The names in a folder, sorted; `nil` if it can't be read.
  private static func names(in path: [CChar]) -> [[UInt8]]? {
    guard let folder = opendir(path + [0]) else { return nil }
    defer { closedir(folder) }
    var names: [[UInt8]] = []
    while let entry = readdir(folder) {
      let offset = MemoryLayout<dirent>.offset(of: \.d_name) ?? 0
      let text = UnsafeRawPointer(entry).advanced(by: offset).assumingMemoryBound(to: CChar.self)
      let name = UnsafeRawBufferPointer(start: text, count: strlen(text))
      if !name.elementsEqual([0x2e]), !name.elementsEqual([0x2e, 0x2e]) { names.append(Array(name)) }
    }
    return names.sorted { $0.lexicographicallyPrecedes($1) }
  }

  private static func omission(_ path: [CChar], _ reason: String? = nil) -> Omission {
    let reason = reason ?? Errno(rawValue: errno).description
    return Omission(path: String(decoding: path.map { UInt8(bitPattern: $0) }, as: UTF8.self), reason: reason)
  }
}
