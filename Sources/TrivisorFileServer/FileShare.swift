import TrivisorCLinux
import Glibc
import SystemPackage

/// One folder and what the guest's kernel knows of it and has open: the state that all operations work on, and what several of them
/// need. Not synchronized: one thread at a time.
final class FileShare {
  let folder: SharedFolder
  let nodes: NodeTable
  let limits: FileServer.Limits
  var handles: [UInt64: OpenFile] = [:]
  var nextHandle: UInt64 = 1
  /// Inode numbers are the host's, with a mark of the file system above bit 48 where that is not the folder's own.
  private var devices: [UInt64: UInt64] = [:]
  let extraFiles: [FileName: SharedFolder.ExtraFile]
  /// Those that the guest has asked for.
  var extraNodes: [FileName: FileNode] = [:]
  private let hiddenFiles: Set<FileIdentity>

  /// Bytes of one read or write.
  static let transferLimit = 1 << 20

  /// What of an open's flags is passed on (open(2)). Waiting, links, processes' terminals and the guest's page cache are not the
  /// host's business.
  static let openFlags = O_ACCMODE | O_APPEND | O_TRUNC | O_SYNC | O_DSYNC

  /// Opens the folder.
  /// - Throws: `SharedFolderFailure`.
  init(_ folder: SharedFolder, limits: FileServer.Limits) throws(SharedFolderFailure) {
    guard access("/proc/self/fd", X_OK) == 0 else {
      throw SharedFolderFailure(reason: "this host has no /proc, through which files are opened", isHosts: true)
    }
    let opened = folder.path.withPlatformString { Glibc.open($0, CLINUX_O_PATH | O_DIRECTORY | O_CLOEXEC) }
    guard opened >= 0 else {
      throw SharedFolderFailure(reason: "\(Errno(rawValue: errno))", isHosts: false)
    }
    var status = stat()
    var reason: String?
    var isHosts = false
    if fstat(opened, &status) != 0 {
      reason = "\(Errno(rawValue: errno))"
    } else if !FileSystemKinds.isOrdinary(opened, device: UInt64(status.st_dev)) {
      reason = "it lies in a file system that holds no ordinary files, such as /proc or /dev"
    } else {
      let probe = clinux_open_beneath(opened, ".", CLINUX_O_PATH | O_DIRECTORY | O_CLOEXEC, 0)
      if probe < 0 {
        isHosts = errno == ENOSYS || errno == EPERM
        reason = isHosts ? "this host does not allow openat2(2) (Linux 5.6)" : "\(Errno(rawValue: errno))"
      } else {
        close(probe)
      }
    }
    if let reason {
      close(opened)
      throw SharedFolderFailure(reason: reason, isHosts: isHosts)
    }
    self.folder = folder
    self.limits = limits
    let (paths, identities) = Self.findHidden(folder)
    hiddenFiles = identities
    nodes = NodeTable(
      root: opened, status, hidden: paths, limit: limits.nodes, descriptorLimit: limits.cachedDescriptors)
    var extra: [FileName: SharedFolder.ExtraFile] = [:]
    for file in folder.extraFiles {
      if let name = try? FileName(Array(file.name.utf8)) { extra[name] = file }
    }
    extraFiles = extra
    devices[nodes.root.identity.device] = 0
  }

  /// Names below the folder that are refused, and what they are by now: they may have other names, too.
  private static func findHidden(_ folder: SharedFolder) -> (HiddenPaths?, Set<FileIdentity>) {
    var paths: HiddenPaths?
    var identities: Set<FileIdentity> = []
    let root = realPath(folder.path) ?? folder.path
    for path in folder.hidden {
      var status = stat()
      if path.withPlatformString({ stat($0, &status) }) == 0 { identities.insert(FileIdentity(status)) }
      let place = realPath(path) ?? path
      guard place.starts(with: root) else { continue }
      let names = place.components.dropFirst(root.components.count)
      let components = names.compactMap { try? FileName(Array($0.string.utf8)) }
      guard components.count == names.count, !components.isEmpty else { continue }
      let tree = paths ?? HiddenPaths()
      tree.add(components[...])
      paths = tree
    }
    return (paths, identities)
  }

  private static func realPath(_ path: FilePath) -> FilePath? {
    guard let real = path.withPlatformString({ realpath($0, nil) }) else { return nil }
    defer { free(real) }
    return FilePath(platformString: real)
  }

  /// Forgets what the guest's kernel knew and closes what it had open.
  func reset() {
    handles = [:]
    extraNodes = [:]
    nodes.reset()
  }

  /// Whether nothing of the folder can be changed.
  var isReadOnly: Bool { folder.isReadOnly || folder.freshness == .snapshot }

  // MARK: Nodes

  /// What a name stands for, and its attributes.
  func find(_ name: FileName, in parent: FileNode) throws(Errno) -> (FileNode, stat) {
    guard parent.kind == S_IFDIR else { throw .notDirectory }
    guard parent.backing == .host else { throw .noSuchFileOrDirectory }
    try refuseHidden(name, in: parent)
    if parent === nodes.root, let extra = extraFiles[name] { return try find(extra, name) }
    return try withDescriptor(of: parent) { descriptor throws(Errno) in
      var status = stat()
      guard fstatat(descriptor, name.characters, &status, AT_SYMLINK_NOFOLLOW | CLINUX_AT_NO_AUTOMOUNT) == 0 else {
        throw Errno(rawValue: errno)
      }
      var backing = FileNode.Backing.host
      if UInt64(status.st_dev) != parent.identity.device {
        // A mount point.
        let (opened, found) = try NodeTable.open(name, in: descriptor)
        defer { close(opened) }
        status = found
        if !FileSystemKinds.isOrdinary(opened, device: UInt64(status.st_dev)) {
          guard status.kind == S_IFDIR else { throw .permissionDenied }
          backing = .closed
          status = Self.closedFolder(status)
        }
      }
      if isHidden(FileIdentity(status)) { throw .permissionDenied }
      let node = try nodes.node(for: status, in: parent, name, backing: backing)
      if backing == .host { applyStored(name, in: descriptor, to: &status) }
      return (node, status)
    }
  }

  /// Owner and mode of an unpacked image's file.
  private func applyStored(_ name: FileName, in folder: Int32, to status: inout stat) {
    guard self.folder.hasStoredAttributes else { return }
    let path = Array((Self.path(folder) + "/").utf8CString.dropLast()) + name.characters
    path.withUnsafeBufferPointer { path in
      if let start = path.baseAddress { StoredAttributes.apply(start, to: &status) }
    }
  }

  /// A file that the share brings along: a file in memory.
  private func find(_ extra: SharedFolder.ExtraFile, _ name: FileName) throws(Errno) -> (FileNode, stat) {
    if let known = extraNodes[name] { return (known, try Self.status(known.descriptor)) }
    let descriptor = memfd_create(extra.name, CLINUX_MFD_CLOEXEC)
    guard descriptor >= 0 else { throw Errno(rawValue: errno) }
    let file = FileDescriptor(rawValue: descriptor)
    do {
      try file.writeAll(extra.contents())
    } catch {
      close(descriptor)
      throw .ioError
    }
    fchmod(descriptor, 0o444)
    var status = stat()
    guard fstat(descriptor, &status) == 0 else {
      close(descriptor)
      throw .ioError
    }
    do throws(Errno) {
      let node = try nodes.node(for: status, in: nodes.root, name, backing: .fixed, descriptor: descriptor)
      extraNodes[name] = node
      return (node, status)
    } catch {
      close(descriptor)
      throw error
    }
  }

  /// What is shown of a mount point that is not crossed.
  private static func closedFolder(_ status: stat) -> stat {
    var shown = stat()
    shown.st_dev = status.st_dev
    shown.st_ino = status.st_ino
    shown.st_mode = S_IFDIR | 0o555
    shown.st_nlink = 2
    shown.st_blksize = 4096
    return shown
  }

  /// A node's attributes as they are now.
  func status(of node: FileNode, _ file: OpenFile? = nil) throws(Errno) -> stat {
    if node.backing == .closed {
      var status = stat()
      status.st_dev = UInt(node.identity.device)
      status.st_ino = UInt(node.identity.inode)
      return Self.closedFolder(status)
    }
    if let file { return try status(file.descriptor, of: node) }
    return try withDescriptor(of: node) { descriptor throws(Errno) in try status(descriptor, of: node) }
  }

  private func status(_ descriptor: Int32, of node: FileNode) throws(Errno) -> stat {
    var status = try Self.status(descriptor)
    guard folder.hasStoredAttributes, node.backing == .host else { return status }
    StoredAttributes.apply(descriptor, to: &status)
    return status
  }

  static func status(_ descriptor: Int32) throws(Errno) -> stat {
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { throw Errno(rawValue: errno) }
    return status
  }

  // MARK: Descriptors

  /// A regular file, opened anew.
  func open(_ node: FileNode, flags: Int32) throws(Errno) -> Int32 {
    guard node.kind == S_IFREG else { throw node.kind == S_IFDIR ? .isDirectory : .permissionDenied }
    let writes = flags & O_ACCMODE != O_RDONLY || flags & O_TRUNC != 0
    if writes {
      try refuseIfReadOnly()
      if node.backing == .fixed { throw .readOnlyFileSystem }
    }
    return try withDescriptor(of: node) { descriptor throws(Errno) in
      let status = try Self.status(descriptor)
      guard status.kind == S_IFREG else { throw .permissionDenied }
      if writes { try Self.stripPrivileges(descriptor, status) }
      return try Self.reopen(descriptor, flags: flags & Self.openFlags)
    }
  }

  /// What a guest has written must not run with its owner's rights on the host. For ordinary users the host's kernel sees to
  /// that when they write; for root it does not.
  private static func stripPrivileges(_ descriptor: Int32, _ status: stat) throws(Errno) {
    let privileges = FilePrivileges.all
    guard status.st_mode & privileges != 0, geteuid() == 0 else { return }
    guard chmod(path(descriptor), status.st_mode & 0o7777 & ~privileges) == 0 else { throw Errno(rawValue: errno) }
  }

  /// Gives a new file the mode and, where the host lets us, the owner that the guest means.
  func adopt(_ descriptor: Int32, mode: UInt32, _ request: FileRequest) throws(Errno) {
    let owner = folder.owners.toHost(OwnerMap.Owner(user: request.user, group: request.group))
    if geteuid() == 0, owner.user != 0 || owner.group != 0 {
      fchownat(descriptor, "", owner.user, owner.group, CLINUX_AT_EMPTY_PATH)
    }
    guard chmod(Self.path(descriptor), mode & 0o1777) == 0 else { throw Errno(rawValue: errno) }
  }

  func withDescriptor<Result>(
    of node: FileNode, _ body: (Int32) throws(Errno) -> Result
  ) throws(Errno) -> Result {
    try nodes.withDescriptor(of: node, openFile: { handles[$0]?.descriptor }, body)
  }

  func withDescriptor<Result>(
    of number: UInt64, _ body: (Int32) throws(Errno) -> Result
  ) throws(Errno) -> Result {
    try withDescriptor(of: try nodes.node(number), body)
  }

  func openFile(_ handle: UInt64, of number: UInt64) throws(Errno) -> OpenFile {
    guard let file = handles[handle], file.node.number == number else { throw .badFileDescriptor }
    return file
  }

  /// Keeps something that was opened; closes it where there is no room.
  func keep(_ descriptor: Int32, of node: FileNode, flags: Int32) throws(Errno) -> UInt64 {
    guard handles.count < limits.openFiles else {
      close(descriptor)
      throw .tooManyOpenFilesInSystem
    }
    let handle = nextHandle
    nextHandle += 1
    keep(OpenFile(node, descriptor, flags: flags), as: handle)
    return handle
  }

  func keep(_ file: OpenFile, as handle: UInt64) {
    handles[handle] = file
    file.node.handles.append(handle)
  }

  // MARK: What is refused

  func refuseIfReadOnly() throws(Errno) {
    if isReadOnly { throw .readOnlyFileSystem }
  }

  /// Refuses whatever would make, remove or rename something under a name.
  func refuseChange(of name: FileName, in parent: FileNode) throws(Errno) {
    try refuseIfReadOnly()
    guard parent.kind == S_IFDIR else { throw .notDirectory }
    guard parent.backing == .host else { throw .permissionDenied }
    if parent === nodes.root, extraFiles[name] != nil { throw .notPermitted }
    // Nor what has something hidden below it: under another name it would not be hidden.
    if parent.hidden?.below[name] != nil { throw .permissionDenied }
  }

  func refuseHidden(_ name: FileName, in parent: FileNode) throws(Errno) {
    if parent.hidden?.below[name]?.isHidden ?? false { throw .permissionDenied }
  }

  func isHidden(_ identity: FileIdentity) -> Bool { hiddenFiles.contains(identity) }

  // MARK: Numbers and times

  /// A file system's mark in inode numbers.
  func mark(of device: UInt64) -> UInt64 {
    if let mark = devices[device] { return mark << 48 }
    let mark = UInt64(devices.count % 0x7ff)
    if devices.count < 1 << 16 { devices[device] = mark }
    return mark << 48
  }

  /// How long the guest may rely on what it was told, in seconds.
  var validity: UInt64 { folder.freshness == .live ? 1 : 24 * 60 * 60 }

  /// The path of a descriptor, for calls that take no descriptor with O_PATH.
  static func path(_ descriptor: Int32) -> String { "/proc/self/fd/\(descriptor)" }

  /// Opens what an O_PATH descriptor stands for.
  static func reopen(_ descriptor: Int32, flags: Int32) throws(Errno) -> Int32 {
    let opened = Glibc.open(path(descriptor), flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)
    guard opened >= 0 else { throw Errno(rawValue: errno) }
    return opened
  }
}
