// Makes a tree of files from the layers of an image, below one folder and nowhere else.
//
// Archives come from anybody. A path is taken apart into names, ".." is refused, and where a folder on the way is a link, the host's
// kernel resolves it as if the folder were the root (openat2(2), RESOLVE_IN_ROOT); the last name is never followed. What may
// come out is bounded in bytes, entries and depth.

import Glibc
import SystemPackage
import TrivisorCLinux
import TrivisorFileServer

final class TreeBuilder {
  private static let depthLimit = 256
  private static let chunk = 256 << 10
  /// The file system keeps so much.
  private static let reserve: UInt64 = 256 << 20
  /// Linux' image layers: "delete this" and "delete all that was here" (OCI Image Format Specification, Layer).
  private static let whiteout = Array(".wh.".utf8)
  private static let opaque = Array(".wh..wh..opq".utf8)

  private let root: Int32
  private let name: String
  private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: chunk, alignment: 4096)
  /// What may still be written.
  private var room: UInt64
  /// Inodes of this layer: an opaque folder hides those of the layers below.
  private var ofLayer: Set<UInt> = []
  /// Paths of folders of this layer that are among them.
  private var marked: Set<[UInt8]> = []
  /// Devices that were left out.
  private(set) var omissions = 0
  private(set) var entries = 0

  /// - Parameter root: an empty folder, open.
  init(_ root: Int32, name: String) {
    self.root = root
    self.name = name
    var status = statvfs()
    let free = fstatvfs(root, &status) == 0 ? UInt64(status.f_bavail) * UInt64(status.f_frsize) : 0
    room = free > Self.reserve ? free - Self.reserve : 0
  }

  deinit { buffer.deallocate() }

  /// Puts a layer over what there is.
  func add(_ tar: inout TarReader) throws(ImageArchiveFailure) {
    ofLayer = []
    marked = []
    var times: [([ArraySlice<UInt8>], Int64)] = []
    while let entry = try tar.next() {
      let names = try components(entry.path)
      guard let last = names.last else {
        // The root itself.
        if entry.kind == .directory { try setAttributes(entry, root) }
        continue
      }
      entries += 1
      let folder = try open(names.dropLast())
      defer { close(folder) }
      if last.elementsEqual(Self.opaque) {
        try Self.clear(folder, keeping: ofLayer)
      } else if last.starts(with: Self.whiteout) {
        try Self.remove(Array(last.dropFirst(Self.whiteout.count)), in: folder)
      } else {
        try make(entry, Array(last), in: folder, &tar)
        try mark(names.dropLast())
        if entry.kind == .directory { times.append((names, entry.time)) }
      }
    }
    // Making files changed their folders' times.
    for (names, time) in times.reversed() {
      guard let last = names.last, let folder = try? open(names.dropLast()) else { continue }
      setTime(time, Array(last), in: folder)
      close(folder)
    }
  }

  private func failure(_ doing: String, _ name: [UInt8]) -> ImageArchiveFailure { Self.failure(doing, name) }

  private static func failure(_ doing: String, _ name: [UInt8]) -> ImageArchiveFailure {
    let error = Errno(rawValue: errno)
    return ImageArchiveFailure(
      "the root can't be unpacked: \(doing) '\(String(decoding: name, as: UTF8.self))': \(error)", isHosts: true)
  }

  private func components(_ path: [UInt8]) throws(ImageArchiveFailure) -> [ArraySlice<UInt8>] {
    let names = path.split(separator: UInt8(ascii: "/")).filter { !$0.elementsEqual(Array(".".utf8)) }
    let problem: String? =
      names.contains { $0.elementsEqual(Array("..".utf8)) }
      ? "leads out of it" : path.contains(0) ? "holds a zero byte" : names.count > Self.depthLimit ? "is too deep" : nil
    if let problem {
      throw ImageArchiveFailure("\(name) is refused: its path '\(String(decoding: path, as: UTF8.self))' \(problem)")
    }
    return names
  }

  private static func text(_ name: some Collection<UInt8>) -> [CChar] { name.map { CChar(bitPattern: $0) } + [0] }

  /// Opens a folder with O_PATH, made where it is not there.
  private func open(_ names: ArraySlice<ArraySlice<UInt8>>) throws(ImageArchiveFailure) -> Int32 {
    let path = Array(names.joined(separator: [UInt8(ascii: "/")]))
    let opened = clinux_open_in_root(root, Self.text(path.isEmpty ? Array(".".utf8) : path))
    if opened >= 0 {
      var status = stat()
      if fstat(opened, &status) == 0, status.st_mode & S_IFMT == S_IFDIR { return opened }
      close(opened)
      errno = ENOTDIR
      throw failure("a folder is to be", path)
    }
    guard errno == ENOENT, let last = names.last else { throw failure("opening", path) }
    let parent = try open(names.dropLast())
    defer { close(parent) }
    guard mkdirat(parent, Self.text(last), 0o755) == 0 else { throw failure("making the folder", path) }
    return try open(names)
  }

  /// Folders that something of this layer lies in are of this layer, too.
  private func mark(_ names: ArraySlice<ArraySlice<UInt8>>) throws(ImageArchiveFailure) {
    guard !names.isEmpty, marked.insert(Array(names.joined(separator: [UInt8(ascii: "/")]))).inserted else { return }
    let folder = try open(names)
    defer { close(folder) }
    var status = stat()
    if fstat(folder, &status) == 0 { ofLayer.insert(UInt(status.st_ino)) }
    try mark(names.dropLast())
  }

  // MARK: Making

  private func make(
    _ entry: TarEntry, _ name: [UInt8], in folder: Int32, _ tar: inout TarReader
  ) throws(ImageArchiveFailure) {
    let text = Self.text(name)
    var old = stat()
    let isThere = fstatat(folder, text, &old, AT_SYMLINK_NOFOLLOW) == 0
    if isThere, !(entry.kind == .directory && old.st_mode & S_IFMT == S_IFDIR) { try Self.remove(name, in: folder) }
    switch entry.kind {
    case .directory:
      if !(isThere && old.st_mode & S_IFMT == S_IFDIR) {
        guard mkdirat(folder, text, 0o700) == 0 else { throw failure("making the folder", name) }
      }
      let made = clinux_open_beneath(folder, text, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0)
      guard made >= 0 else { throw failure("opening", name) }
      defer { close(made) }
      try setAttributes(entry, made)
    case .file: try makeFile(entry, name, in: folder, &tar)
    case .symbolicLink:
      guard !entry.target.isEmpty, !entry.target.contains(0) else {
        throw ImageArchiveFailure("\(self.name) is damaged: a link leads nowhere")
      }
      guard symlinkat(Self.text(entry.target), folder, text) == 0 else { throw failure("making the link", name) }
      setTime(entry.time, name, in: folder)
    case .hardLink:
      let names = try components(entry.target)
      guard let last = names.last else { throw ImageArchiveFailure("\(self.name) is damaged: a link leads nowhere") }
      let source = try open(names.dropLast())
      defer { close(source) }
      guard linkat(source, Self.text(last), folder, text, 0) == 0 else { throw failure("making the link", name) }
    case .pipe:
      guard mkfifoat(folder, text, mode_t(0o600 | entry.mode & 0o777)) == 0 else {
        throw failure("making the pipe", name)
      }
    case .device: omissions += 1
    }
    var status = stat()
    if fstatat(folder, text, &status, AT_SYMLINK_NOFOLLOW) == 0 { ofLayer.insert(UInt(status.st_ino)) }
  }

  private func makeFile(
    _ entry: TarEntry, _ name: [UInt8], in folder: Int32, _ tar: inout TarReader
  ) throws(ImageArchiveFailure) {
    guard entry.size <= room else {
      throw ImageArchiveFailure(
        "\(self.name) unpacks to more than the cache's file system has room for: free some, or name another place by"
          + " XDG_CACHE_HOME", isHosts: true)
    }
    room -= entry.size
    let flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC
    let file = clinux_open_beneath(folder, Self.text(name), flags, 0o600)
    guard file >= 0 else { throw failure("making the file", name) }
    defer { close(file) }
    while true {
      let count = try tar.read(into: buffer)
      if count == 0 { break }
      var rest = UnsafeRawBufferPointer(rebasing: buffer[..<count])
      while !rest.isEmpty {
        let written = write(file, rest.baseAddress, rest.count)
        if written < 0, errno == EINTR { continue }
        guard written > 0 else { throw failure("writing", name) }
        rest = UnsafeRawBufferPointer(rebasing: rest[written...])
      }
    }
    try setAttributes(entry, file)
    var values = [timespec(tv_sec: Int(entry.time), tv_nsec: 0), timespec(tv_sec: Int(entry.time), tv_nsec: 0)]
    futimens(file, &values)
  }

  /// Its own user must be able to read it on the host; what the guest is to see is stored where that differs.
  private func setAttributes(_ entry: TarEntry, _ descriptor: Int32) throws(ImageArchiveFailure) {
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { throw failure("looking at", entry.path) }
    let isFolder = status.st_mode & S_IFMT == S_IFDIR
    let mode = entry.mode & 0o777 | (isFolder ? 0o700 : 0o600)
    guard fchmod(descriptor, mode_t(mode)) == 0 else { throw failure("setting the mode of", entry.path) }
    let stored = StoredAttributes(user: entry.user, group: entry.group, mode: entry.mode)
    if stored == StoredAttributes(user: 0, group: 0, mode: mode) {
      fremovexattr(descriptor, StoredAttributes.name)
      return
    }
    let text = Array(stored.text.utf8)
    guard fsetxattr(descriptor, StoredAttributes.name, text, text.count, 0) == 0 else {
      if errno == ENOTSUP {
        throw ImageArchiveFailure(
          "the cache's file system keeps no owners (extended attributes, user.*): name a place on another one by"
            + " XDG_CACHE_HOME", isHosts: true)
      }
      throw failure("storing the owner of", entry.path)
    }
  }

  private func setTime(_ time: Int64, _ name: [UInt8], in folder: Int32) {
    var values = [timespec(tv_sec: Int(time), tv_nsec: 0), timespec(tv_sec: Int(time), tv_nsec: 0)]
    utimensat(folder, Self.text(name), &values, AT_SYMLINK_NOFOLLOW)
  }

  // MARK: Removing

  /// Removes what has a name, with all below it; nothing if there is nothing.
  static func remove(_ name: [UInt8], in folder: Int32) throws(ImageArchiveFailure) {
    let text = text(name)
    if name.isEmpty || isDots(name) { return }
    if unlinkat(folder, text, 0) == 0 || errno == ENOENT { return }
    guard errno == EISDIR || errno == EPERM else { throw failure("removing", name) }
    try clear(name, in: folder, keeping: [])
    guard unlinkat(folder, text, AT_REMOVEDIR) == 0 else { throw failure("removing", name) }
  }

  private static func clear(_ name: [UInt8], in folder: Int32, keeping kept: Set<UInt>) throws(ImageArchiveFailure) {
    let inner = clinux_open_beneath(folder, text(name), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0)
    guard inner >= 0 else { throw failure("opening", name) }
    defer { close(inner) }
    try clear(inner, keeping: kept)
  }

  private static func isDots(_ name: [UInt8]) -> Bool { name == [0x2e] || name == [0x2e, 0x2e] }

  /// Removes all that a folder holds, but what this layer has made.
  private static func clear(_ folder: Int32, keeping kept: Set<UInt>) throws(ImageArchiveFailure) {
    let copy = clinux_open_beneath(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0)
    guard copy >= 0 else { throw failure("opening", []) }
    guard let stream = fdopendir(copy) else {
      close(copy)
      throw failure("reading", [])
    }
    defer { closedir(stream) }
    var names: [(name: [UInt8], isKept: Bool)] = []
    while let entry = readdir(stream) {
      let name = withUnsafeBytes(of: entry.pointee.d_name) { Array($0.prefix { $0 != 0 }) }
      if !isDots(name) { names.append((name, kept.contains(UInt(entry.pointee.d_ino)))) }
    }
    for entry in names {
      guard entry.isKept else {
        try remove(entry.name, in: folder)
        continue
      }
      var status = stat()
      let isFolder =
        fstatat(folder, text(entry.name), &status, AT_SYMLINK_NOFOLLOW) == 0 && status.st_mode & S_IFMT == S_IFDIR
      if isFolder { try clear(entry.name, in: folder, keeping: kept) }
    }
  }
}
