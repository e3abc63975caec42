import TrivisorCLinux
import Glibc
import SystemPackage

/// Names and attributes.
extension FileServer {
  func lookup(_ request: inout FileRequest, _ reply: inout FileReply) throws(Errno) {
    let name = try request.name()
    let parent = try nodes.node(request.node)
    do throws(Errno) {
      let (node, status) = try find(name, in: parent)
      putEntry(node, status, &reply)
    } catch {
      guard error == .noSuchFileOrDirectory, folder.freshness == .snapshot else { throw error }
      // That there is nothing is worth keeping, too: node 0.
      putEntry(number: 0, stat(), &reply)
    }
  }

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

  func getAttributes(_ request: inout FileRequest, _ reply: inout FileReply) throws(Errno) {
    let flags: UInt32 = try request.number()
    try request.skip(4)
    let handle: UInt64 = try request.number()
    let node = try nodes.node(request.node)
    // FUSE_GETATTR_FH
    let file = flags & 1 != 0 ? try? openFile(handle, of: node.number) : nil
    putAttributes(try status(of: node, file), &reply)
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

  func readLink(_ request: FileRequest, _ reply: inout FileReply) throws(Errno) {
    let target = try withDescriptor(of: request.node) { descriptor throws(Errno) -> [UInt8] in
      var target = [CChar](repeating: 0, count: Int(PATH_MAX))
      let count = readlinkat(descriptor, "", &target, target.count)
      guard count >= 0 else { throw errno == ENOENT ? .invalidArgument : Errno(rawValue: errno) }
      return target[..<count].map { UInt8(bitPattern: $0) }
    }
    reply.put(target)
  }

  func statistics(_ reply: inout FileReply) throws(Errno) {
    var status = statvfs()
    guard fstatvfs(nodes.root.descriptor, &status) == 0 else { throw Errno(rawValue: errno) }
    // struct fuse_kstatfs
    for value in [status.f_blocks, status.f_bfree, status.f_bavail, status.f_files, status.f_ffree] {
      reply.put(UInt64(value))
    }
    for value in [status.f_bsize, status.f_namemax, status.f_frsize] { reply.put(UInt32(clamping: value)) }
    reply.put([UInt8](repeating: 0, count: 4 + 24))
  }

  // MARK: Structures

  /// A node that the guest's kernel hears of (struct fuse_entry_out); it counts as a look-up more.
  func putEntry(_ node: FileNode, _ status: stat, _ reply: inout FileReply) {
    node.lookups += 1
    putEntry(number: node.number, status, &reply)
  }

  func putEntry(number: UInt64, _ status: stat, _ reply: inout FileReply) {
    reply.put(number)
    // generation, then how long name and attributes are valid
    reply.put(UInt64(0))
    reply.put(validity)
    reply.put(validity)
    reply.put(UInt64(0))
    putStructure(status, &reply)
  }

  /// struct fuse_attr_out
  func putAttributes(_ status: stat, _ reply: inout FileReply) {
    reply.put(validity)
    reply.put(UInt64(0))
    putStructure(status, &reply)
  }

  /// struct fuse_attr
  private func putStructure(_ status: stat, _ reply: inout FileReply) {
    let owner = folder.owners.toGuest(OwnerMap.Owner(user: status.st_uid, group: status.st_gid))
    reply.put(inodeNumber(UInt64(status.st_ino), device: UInt64(status.st_dev)))
    reply.put(UInt64(clamping: status.st_size))
    reply.put(UInt64(clamping: status.st_blocks))
    for time in [status.st_atim, status.st_mtim, status.st_ctim] { reply.put(Int64(time.tv_sec)) }
    for time in [status.st_atim, status.st_mtim, status.st_ctim] { reply.put(UInt32(clamping: time.tv_nsec)) }
    reply.put(visibleMode(status))
    reply.put(UInt32(clamping: status.st_nlink))
    reply.put(owner.user)
    reply.put(owner.group)
    // As the kernel packs them: 12 bits of the major number, 20 of the minor one.
    let major = UInt32(gnu_dev_major(UInt(status.st_rdev)))
    let minor = UInt32(gnu_dev_minor(UInt(status.st_rdev)))
    reply.put(minor & 0xff | major << 8 | minor & ~0xff << 12)
    reply.put(UInt32(clamping: status.st_blksize))
    reply.put(UInt32(0))
  }

  /// No file of the host's gives a guest's user other rights than its own.
  private func visibleMode(_ status: stat) -> UInt32 {
    status.kind == S_IFDIR || folder.hasStoredAttributes ? status.st_mode : status.st_mode & ~FilePrivileges.all
  }

  func inodeNumber(_ inode: UInt64, device: UInt64) -> UInt64 {
    let mark = mark(of: device)
    return mark == 0 ? inode : inode & 0xffff_ffff_ffff | mark
  }
}
