import TrivisorCLinux
import Glibc
import SystemPackage
import TrivisorVMM

/// Opening, reading and writing.
struct FileContents {
  let share: FileShare

  private enum OpenFlag {
    static let keepsCache: UInt32 = 1 << 1
    static let cachesDirectory: UInt32 = 1 << 3
  }

  func open(_ request: inout FileRequest, _ reply: inout FileReply) throws(Errno) {
    let flags = Int32(bitPattern: try request.number() as UInt32)
    let node = try share.nodes.node(request.node)
    let handle = try share.keep(try share.open(node, flags: flags), of: node, flags: flags)
    putOpen(handle, try openReplyFlags(handle, node), &reply)
  }

  /// What the guest's kernel has cached of a file stays good as long as the file has not changed.
  private func openReplyFlags(_ handle: UInt64, _ node: FileNode) throws(Errno) -> UInt32 {
    guard let file = share.handles[handle] else { return 0 }
    let version = FileVersion(try FileShare.status(file.descriptor))
    defer { node.version = version }
    return node.version == nil || node.version == version ? OpenFlag.keepsCache : 0
  }

  /// struct fuse_open_out
  func putOpen(_ handle: UInt64, _ flags: UInt32, _ reply: inout FileReply) {
    reply.put(handle)
    reply.put(flags)
    reply.put(UInt32(0))
  }

  func create(_ request: inout FileRequest, _ reply: inout FileReply) throws(Errno) {
    let flags = Int32(bitPattern: try request.number() as UInt32)
    let mode: UInt32 = try request.number()
    try request.skip(8)
    let name = try request.name()
    let parent = try share.nodes.node(request.node)
    try share.refuseChange(of: name, in: parent)
    let created = try share.withDescriptor(of: parent) { folder throws(Errno) -> Int32 in
      let opened = clinux_open_beneath(
        folder, name.characters, flags & FileShare.openFlags | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
      if opened >= 0 { return opened }
      // Somebody else was faster: then it is what it is, unless the guest insists.
      guard errno == EEXIST, flags & O_EXCL == 0 else { throw Errno(rawValue: errno) }
      return -1
    }
    if created >= 0 {
      do throws(Errno) { try share.adopt(created, mode: mode, request) } catch {
        close(created)
        throw error
      }
    }
    let node: FileNode
    let status: stat
    do throws(Errno) { (node, status) = try share.find(name, in: parent) } catch {
      if created >= 0 { close(created) }
      throw error
    }
    defer { share.nodes.dropIfUnused(node) }
    let descriptor = created >= 0 ? created : try share.open(node, flags: flags & ~O_CREAT)
    let handle = try share.keep(descriptor, of: node, flags: flags)
    node.version = FileVersion(status)
    share.putEntry(node, status, &reply)
    putOpen(handle, OpenFlag.keepsCache, &reply)
  }

  func read(_ request: inout FileRequest, _ reply: inout FileReply) throws(Errno) {
    let handle: UInt64 = try request.number()
    let offset: UInt64 = try request.number()
    let size: UInt32 = try request.number()
    let file = try share.openFile(handle, of: request.node)
    guard let offset = off_t(exactly: offset) else { throw .invalidArgument }
    reply.room.keepFirst(min(Int(size), FileShare.transferLimit))
    while reply.room.byteCount > 0 {
      let (pieces, count) = reply.room.vectors
      let done = preadv(file.descriptor, pieces, count, offset + off_t(reply.stored))
      if done < 0 {
        if errno == EINTR { continue }
        if reply.stored == 0 { throw Errno(rawValue: errno) }
        break
      }
      if done == 0 { break }
      reply.room.removeFirst(done)
      reply.stored += done
    }
  }

  func write(_ request: inout FileRequest, _ pieces: inout BufferList, _ reply: inout FileReply) throws(Errno) {
    // struct fuse_write_in
    try request.take(40, from: &pieces)
    let handle: UInt64 = try request.number()
    let offset: UInt64 = try request.number()
    let size: UInt32 = try request.number()
    try share.refuseIfReadOnly()
    let file = try share.openFile(handle, of: request.node)
    guard let offset = off_t(exactly: offset), Int(size) <= pieces.byteCount, size <= FileShare.transferLimit else {
      throw .invalidArgument
    }
    pieces.keepFirst(Int(size))
    var stored = 0
    while pieces.byteCount > 0 {
      let (vectors, count) = pieces.vectors
      let done = pwritev(file.descriptor, vectors, count, offset + off_t(stored))
      if done < 0 {
        if errno == EINTR { continue }
        if stored == 0 { throw Errno(rawValue: errno) }
        break
      }
      if done == 0 { break }
      pieces.removeFirst(done)
      stored += done
    }
    file.node.version = nil
    reply.put(UInt32(stored))
    reply.put(UInt32(0))
  }

  func release(_ request: inout FileRequest) throws(Errno) {
    let handle: UInt64 = try request.number()
    let file = try share.openFile(handle, of: request.node)
    share.handles[handle] = nil
    file.node.handles.removeAll { $0 == handle }
    // Our own writes are no reason to read it all again.
    if file.node.version == nil { file.node.version = (try? FileShare.status(file.descriptor)).map(FileVersion.init) }
  }

  func synchronize(_ request: inout FileRequest) throws(Errno) {
    let handle: UInt64 = try request.number()
    let flags: UInt32 = try request.number()
    let file = try share.openFile(handle, of: request.node)
    // FUSE_FSYNC_FDATASYNC
    let result = flags & 1 != 0 ? fdatasync(file.descriptor) : fsync(file.descriptor)
    guard result == 0 || errno == EINVAL || errno == EROFS else { throw Errno(rawValue: errno) }
  }

  func allocate(_ request: inout FileRequest) throws(Errno) {
    let handle: UInt64 = try request.number()
    let offset: UInt64 = try request.number()
    let length: UInt64 = try request.number()
    let mode: UInt32 = try request.number()
    try share.refuseIfReadOnly()
    let file = try share.openFile(handle, of: request.node)
    guard let offset = off_t(exactly: offset), let length = off_t(exactly: length) else { throw .invalidArgument }
    guard fallocate(file.descriptor, Int32(bitPattern: mode), offset, length) == 0 else {
      throw Errno(rawValue: errno)
    }
    file.node.version = nil
  }

  func seek(_ request: inout FileRequest, _ reply: inout FileReply) throws(Errno) {
    let handle: UInt64 = try request.number()
    let offset: UInt64 = try request.number()
    let whence: UInt32 = try request.number()
    let file = try share.openFile(handle, of: request.node)
    // The rest is the guest's kernel's own.
    guard [CLINUX_SEEK_DATA, CLINUX_SEEK_HOLE].contains(Int32(bitPattern: whence)), file.node.kind == S_IFREG,
      let offset = off_t(exactly: offset)
    else { throw .invalidArgument }
    let place = lseek(file.descriptor, offset, Int32(bitPattern: whence))
    guard place >= 0 else { throw Errno(rawValue: errno) }
    reply.put(UInt64(place))
  }

  // MARK: Folders

  func openDirectory(_ request: inout FileRequest, _ reply: inout FileReply) throws(Errno) {
    let node = try share.nodes.node(request.node)
    guard node.kind == S_IFDIR else { throw .notDirectory }
    var descriptor: Int32 = -1
    if node.backing == .host {
      descriptor = try share.withDescriptor(of: node) { path throws(Errno) in
        try FileShare.reopen(path, flags: O_RDONLY | O_DIRECTORY)
      }
    }
    let handle = try share.keep(descriptor, of: node, flags: O_RDONLY)
    putOpen(
      handle, share.folder.freshness == .snapshot ? OpenFlag.keepsCache | OpenFlag.cachesDirectory : 0, &reply)
  }

  func readDirectory(
    _ request: inout FileRequest, _ reply: inout FileReply, withAttributes: Bool
  ) throws(Errno) {
    let handle: UInt64 = try request.number()
    let offset: UInt64 = try request.number()
    let size: UInt32 = try request.number()
    let file = try share.openFile(handle, of: request.node)
    guard file.node.kind == S_IFDIR else { throw .notDirectory }
    let room = min(Int(size), reply.room.byteCount, FileShare.transferLimit)
    let extraNames = file.node === share.nodes.root ? Array(share.extraFiles.keys) : []
    var reader = try DirectoryReader(
      file, extraNames: extraNames.sorted { $0.characters.lexicographicallyPrecedes($1.characters) })
    try reader.seek(offset)
    while let entry = try reader.next() {
      let before = reply.bytes.count
      var found: (node: FileNode, status: stat)?
      if withAttributes {
        if !entry.isDots, let name = try? FileName(entry.name) { found = try? share.find(name, in: file.node) }
        // An entry without a node is looked up when it is wanted.
        share.putEntry(number: found?.node.number ?? 0, found?.status ?? stat(), &reply)
      }
      // struct fuse_dirent
      let inode = found.map { share.inodeNumber(UInt64($0.status.st_ino), device: UInt64($0.status.st_dev)) }
      reply.put(inode ?? share.inodeNumber(entry.inode, device: file.node.identity.device))
      reply.put(entry.next)
      reply.put(UInt32(entry.name.count))
      reply.put(UInt32(entry.kind))
      reply.put(entry.name)
      reply.pad(to: 8)
      guard reply.bytes.count <= room else {
        reply.shorten(to: before)
        reader.putBack(entry)
        if let node = found?.node { share.nodes.dropIfUnused(node) }
        // A buffer that can't take a single one would be taken for the end.
        if before == 0 { throw .invalidArgument }
        break
      }
      found?.node.lookups += 1
    }
  }
}
