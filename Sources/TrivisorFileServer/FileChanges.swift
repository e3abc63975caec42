import TrivisorCLinux
import Glibc
import SystemPackage

/// Making, removing and renaming; modes, owners, sizes and times.
struct FileChanges {
  let share: FileShare

  /// What a request wants to be set (FATTR_… of include/uapi/linux/fuse.h).
  private struct Wanted: OptionSet {
    let rawValue: UInt32
    static let mode = Wanted(rawValue: 1 << 0)
    static let user = Wanted(rawValue: 1 << 1)
    static let group = Wanted(rawValue: 1 << 2)
    static let size = Wanted(rawValue: 1 << 3)
    static let accessTime = Wanted(rawValue: 1 << 4)
    static let modificationTime = Wanted(rawValue: 1 << 5)
    static let handle = Wanted(rawValue: 1 << 6)
    static let accessNow = Wanted(rawValue: 1 << 7)
    static let modificationNow = Wanted(rawValue: 1 << 8)
  }

  func setAttributes(_ request: inout FileRequest, _ reply: inout FileReply) throws(Errno) {
    let wanted = Wanted(rawValue: try request.number())
    try request.skip(4)
    let handle: UInt64 = try request.number()
    let size: UInt64 = try request.number()
    try request.skip(8)
    let times = (access: try request.number() as Int64, modification: try request.number() as Int64)
    try request.skip(8)
    let fractions = (access: try request.number() as UInt32, modification: try request.number() as UInt32)
    try request.skip(4)
    let mode: UInt32 = try request.number()
    try request.skip(4)
    let owner = OwnerMap.Owner(user: try request.number(), group: try request.number())
    let node = try share.nodes.node(request.node)
    try share.refuseIfReadOnly()
    guard node.backing == .host else { throw .notPermitted }
    let file = wanted.contains(.handle) ? try? share.openFile(handle, of: node.number) : nil
    try share.withDescriptor(of: node) { descriptor throws(Errno) in
      if wanted.contains(.mode) {
        let kept: UInt32 = node.kind == S_IFDIR ? 0o7777 : 0o1777
        guard chmod(FileShare.path(descriptor), mode & kept) == 0 else { throw Errno(rawValue: errno) }
      }
      if !wanted.isDisjoint(with: [.user, .group]) {
        let mapped = share.folder.owners.toHost(owner)
        // All ones: stays as it is.
        let user = wanted.contains(.user) ? mapped.user : UInt32.max
        let group = wanted.contains(.group) ? mapped.group : UInt32.max
        guard fchownat(descriptor, "", user, group, CLINUX_AT_EMPTY_PATH) == 0 else { throw Errno(rawValue: errno) }
      }
      if wanted.contains(.size) { try resize(node, file, to: size) }
      let hasTimes: Wanted = [.accessTime, .modificationTime]
      if !wanted.isDisjoint(with: hasTimes) {
        var values = [
          Self.time(
            wanted.contains(.accessTime), now: wanted.contains(.accessNow), times.access, fractions.access),
          Self.time(
            wanted.contains(.modificationTime), now: wanted.contains(.modificationNow), times.modification,
            fractions.modification),
        ]
        guard utimensat(AT_FDCWD, FileShare.path(descriptor), &values, 0) == 0 else { throw Errno(rawValue: errno) }
      }
    }
    share.putAttributes(try share.status(of: node, file), &reply)
  }

  private static func time(_ isWanted: Bool, now: Bool, _ seconds: Int64, _ nanoseconds: UInt32) -> timespec {
    // UTIME_OMIT and UTIME_NOW (utimensat(2)).
    if !isWanted { return timespec(tv_sec: 0, tv_nsec: (1 << 30) - 2) }
    if now { return timespec(tv_sec: 0, tv_nsec: (1 << 30) - 1) }
    return timespec(tv_sec: Int(seconds), tv_nsec: Int(nanoseconds))
  }

  private func resize(_ node: FileNode, _ file: OpenFile?, to size: UInt64) throws(Errno) {
    guard let size = off_t(exactly: size) else { throw .invalidArgument }
    if let file, ftruncate(file.descriptor, size) == 0 { return }
    // The file may have been opened for reading alone.
    let descriptor = try share.open(node, flags: O_WRONLY)
    defer { close(descriptor) }
    guard ftruncate(descriptor, size) == 0 else { throw Errno(rawValue: errno) }
    node.version = nil
  }

  func makeDirectory(_ request: inout FileRequest, _ reply: inout FileReply) throws(Errno) {
    let mode: UInt32 = try request.number()
    try request.skip(4)
    let name = try request.name()
    try make(name, mode: mode, request, &reply) { mkdirat($0, name.characters, 0o700) }
  }

  func makeNode(_ request: inout FileRequest, _ reply: inout FileReply) throws(Errno) {
    let mode: UInt32 = try request.number()
    try request.skip(12)
    let name = try request.name()
    let kind = mode & S_IFMT
    // The guest's devices are not the host's.
    guard [S_IFREG, S_IFIFO, S_IFSOCK].contains(kind) else { throw .notPermitted }
    try make(name, mode: mode, request, &reply) { mknodat($0, name.characters, kind | 0o600, 0) }
  }

  func makeSymbolicLink(_ request: inout FileRequest, _ reply: inout FileReply) throws(Errno) {
    let name = try request.name()
    let target = try request.text()
    guard !target.isEmpty, target.count < Int(PATH_MAX) else { throw .invalidArgument }
    let characters = target.map { CChar(bitPattern: $0) } + [0]
    try make(name, mode: nil, request, &reply) { symlinkat(characters, $0, name.characters) }
  }

  /// Makes something under a name, and tells the guest's kernel of it.
  /// - Parameters:
  ///   - mode: `nil` for what has none.
  ///   - call: makes it in a folder.
  private func make(
    _ name: FileName, mode: UInt32?, _ request: FileRequest, _ reply: inout FileReply, _ call: (Int32) -> Int32
  ) throws(Errno) {
    let parent = try share.nodes.node(request.node)
    try share.refuseChange(of: name, in: parent)
    try share.withDescriptor(of: parent) { folder throws(Errno) in
      guard call(folder) == 0 else { throw Errno(rawValue: errno) }
      guard let mode else { return }
      let (made, _) = try NodeTable.open(name, in: folder)
      defer { close(made) }
      try share.adopt(made, mode: mode, request)
    }
    let (node, status) = try share.find(name, in: parent)
    share.putEntry(node, status, &reply)
  }

  func link(_ request: inout FileRequest, _ reply: inout FileReply) throws(Errno) {
    let old = try share.nodes.node(try request.number())
    let name = try request.name()
    let parent = try share.nodes.node(request.node)
    try share.refuseChange(of: name, in: parent)
    guard old.backing == .host, old.kind != S_IFDIR else { throw .notPermitted }
    try share.withDescriptor(of: old) { source throws(Errno) in
      try share.withDescriptor(of: parent) { folder throws(Errno) in
        guard linkat(AT_FDCWD, FileShare.path(source), folder, name.characters, AT_SYMLINK_FOLLOW) == 0 else {
          throw Errno(rawValue: errno)
        }
      }
    }
    let (node, status) = try share.find(name, in: parent)
    share.putEntry(node, status, &reply)
  }

  func remove(_ request: inout FileRequest, flags: Int32) throws(Errno) {
    let name = try request.name()
    let parent = try share.nodes.node(request.node)
    try share.refuseChange(of: name, in: parent)
    try share.withDescriptor(of: parent) { folder throws(Errno) in
      guard unlinkat(folder, name.characters, flags) == 0 else { throw Errno(rawValue: errno) }
    }
  }

  func rename(_ request: inout FileRequest, hasFlags: Bool) throws(Errno) {
    let newParent = try share.nodes.node(try request.number())
    var flags: UInt32 = 0
    if hasFlags {
      flags = try request.number()
      try request.skip(4)
    }
    // RENAME_NOREPLACE, or RENAME_EXCHANGE; a whiteout is a device.
    guard [0, 1, 2].contains(flags) else { throw .invalidArgument }
    let (name, newName) = (try request.name(), try request.name())
    let parent = try share.nodes.node(request.node)
    try share.refuseChange(of: name, in: parent)
    try share.refuseChange(of: newName, in: newParent)
    let moved = try share.withDescriptor(of: parent) { from throws(Errno) in
      try share.withDescriptor(of: newParent) { to throws(Errno) in
        let moved = (known(name, in: from), flags == 2 ? known(newName, in: to) : nil)
        guard clinux_rename(from, name.characters, to, newName.characters, flags) == 0 else {
          throw Errno(rawValue: errno)
        }
        return moved
      }
    }
    moved.0?.parent = newParent
    moved.0?.name = newName
    moved.1?.parent = parent
    moved.1?.name = name
  }

  /// The node of what has a name, if the guest's kernel knows it.
  private func known(_ name: FileName, in folder: Int32) -> FileNode? {
    var status = stat()
    guard fstatat(folder, name.characters, &status, AT_SYMLINK_NOFOLLOW) == 0 else { return nil }
    let node = share.nodes.node(known: FileIdentity(status))
    return node === share.nodes.root || node?.backing != .host ? nil : node
  }
}
