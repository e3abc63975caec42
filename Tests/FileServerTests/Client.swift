import Glibc
import SystemPackage
import Testing
import TrivisorVMM

@testable import TrivisorFileServer

/// A guest's kernel, as far as the server can tell: requests as bytes, replies as bytes.
final class Client {
  /// What came back.
  struct Reply {
    /// Of Linux' numbers; 0 if it went well.
    let error: Int32
    let bytes: [UInt8]

    func number<Value: FixedWidthInteger>(_ type: Value.Type = Value.self, at offset: Int) -> Value {
      guard offset + MemoryLayout<Value>.size <= bytes.count else { return 0 }
      return bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: Value.self) }
    }

    /// struct fuse_entry_out
    var node: UInt64 { number(at: 0) }
    var inode: UInt64 { number(at: 40) }
    var size: UInt64 { number(at: 48) }
    var mode: UInt32 { number(at: 40 + 60) }
    var user: UInt32 { number(at: 40 + 68) }
    /// struct fuse_open_out, or behind an entry
    var handle: UInt64 { number(at: bytes.count - 16) }
  }

  let server: FileServer
  var user: UInt32 = 0
  var unique: UInt64 = 1

  init(_ folder: SharedFolder, limits: FileServer.Limits = FileServer.Limits()) throws {
    server = try FileServer(folder, limits: limits)
    let reply = call(.initialize, 0, numbers(UInt32(7), UInt32(38), UInt32(0), UInt32.max))
    try #require(reply.error == 0)
  }

  /// Sends bytes and gives back what was stored; the pieces are cut as `cut` says.
  func send(_ request: [UInt8], room: Int = 1 << 20, cut: Int = .max) -> (FileServer.Answer, [UInt8]) {
    let source = UnsafeMutableRawBufferPointer.allocate(byteCount: max(request.count, 1), alignment: 8)
    let target = UnsafeMutableRawBufferPointer.allocate(byteCount: max(room, 1), alignment: 8)
    defer {
      source.deallocate()
      target.deallocate()
    }
    source.copyBytes(from: request)
    var pieces = Self.pieces(source, count: request.count, cut: cut)
    var rooms = Self.pieces(target, count: room, cut: cut)
    return pieces.withUnsafeMutableBufferPointer { pieces in
      rooms.withUnsafeMutableBufferPointer { rooms in
        var readable = Self.list(pieces, request.count)
        var writable = Self.list(rooms, room)
        let answer = server.answer(&readable, &writable)
        guard case .completed(let count) = answer, count <= room else { return (answer, []) }
        return (answer, Array(target[..<Int(count)]))
      }
    }
  }

  private static func pieces(_ buffer: UnsafeMutableRawBufferPointer, count: Int, cut: Int) -> [iovec] {
    var pieces: [iovec] = []
    var done = 0
    while done < count, pieces.count < 1024 {
      let size = pieces.count == 1023 ? count - done : min(cut, count - done)
      pieces.append(iovec(iov_base: buffer.baseAddress.map { $0 + done }, iov_len: size))
      done += size
    }
    return pieces
  }

  private static func list(_ pieces: UnsafeMutableBufferPointer<iovec>, _ count: Int) -> BufferList {
    BufferList(
      pointer: pieces.baseAddress ?? UnsafeMutablePointer(bitPattern: 8).unsafelyUnwrapped, count: pieces.count,
      byteCount: count)
  }

  /// A request with its header.
  func bytes(_ operation: UInt32, _ node: UInt64, _ arguments: [UInt8]) -> [UInt8] {
    numbers(UInt32(40 + arguments.count), operation) + numbers(unique, node) + numbers(user, user, UInt32(1), UInt32(0))
      + arguments
  }

  @discardableResult
  func call(
    _ operation: FileOperation, _ node: UInt64, _ arguments: [UInt8] = [], room: Int = 1 << 20, cut: Int = .max
  ) -> Reply {
    unique += 1
    let (answer, stored) = send(bytes(operation.rawValue, node, arguments), room: room, cut: cut)
    guard case .completed(let count) = answer, operation.hasReply else { return Reply(error: 0, bytes: []) }
    #expect(count >= 16 && stored.count == Int(count))
    let head = Reply(error: 0, bytes: stored)
    #expect(head.number(UInt32.self, at: 0) == count)
    #expect(head.number(UInt64.self, at: 8) == unique)
    return Reply(error: -head.number(Int32.self, at: 4), bytes: Array(stored.dropFirst(16)))
  }

  // MARK: What a kernel does

  func lookup(_ name: String, in parent: UInt64 = 1) -> Reply { call(.lookup, parent, text(name)) }

  /// The node of a path.
  func node(_ path: String) throws -> UInt64 {
    var node: UInt64 = 1
    for name in path.split(separator: "/") {
      let reply = lookup(String(name), in: node)
      try #require(reply.error == 0 && reply.node != 0, "\(path): \(Errno(rawValue: reply.error))")
      node = reply.node
    }
    return node
  }

  func open(_ node: UInt64, _ flags: Int32 = O_RDONLY) -> Reply {
    call(.open, node, numbers(UInt32(bitPattern: flags), UInt32(0)))
  }

  func read(_ node: UInt64, _ handle: UInt64, at offset: UInt64 = 0, count: UInt32 = 4096, cut: Int = .max) -> Reply {
    call(
      .read, node, numbers(handle, offset) + numbers(count, UInt32(0)) + numbers(UInt64(0), UInt64(0)),
      room: Int(count) + 16, cut: cut)
  }

  func write(_ node: UInt64, _ handle: UInt64, _ contents: [UInt8], at offset: UInt64 = 0, cut: Int = .max) -> Reply {
    call(
      .write, node,
      numbers(handle, offset) + numbers(UInt32(contents.count), UInt32(0)) + numbers(UInt64(0), UInt64(0)) + contents,
      cut: cut)
  }

  func create(_ name: String, in parent: UInt64 = 1, mode: UInt32 = 0o100644, flags: Int32 = O_RDWR) -> Reply {
    call(
      .create, parent, numbers(UInt32(bitPattern: flags), mode, UInt32(0o022), UInt32(0)) + text(name))
  }

  func release(_ node: UInt64, _ handle: UInt64) { call(.release, node, numbers(handle, UInt64(0), UInt64(0))) }

  /// The whole of a file, by its path.
  func contents(_ path: String) throws -> String {
    let node = try node(path)
    let handle = open(node)
    try #require(handle.error == 0)
    defer { release(node, handle.handle) }
    return String(decoding: read(node, handle.handle).bytes, as: UTF8.self)
  }

  /// The names in a folder, read in pieces.
  func names(_ node: UInt64 = 1, withAttributes: Bool, room: UInt32 = 512) throws -> [String] {
    let opened = call(.openDirectory, node, numbers(UInt32(0), UInt32(0)))
    try #require(opened.error == 0)
    var names: [String] = []
    var offset: UInt64 = 0
    while true {
      let reply = call(
        withAttributes ? .readDirectoryPlus : .readDirectory, node,
        numbers(opened.handle, offset) + numbers(room, UInt32(0)) + numbers(UInt64(0), UInt64(0)), room: Int(room) + 16)
      try #require(reply.error == 0)
      if reply.bytes.isEmpty { break }
      var position = 0
      while position < reply.bytes.count {
        let entry = position + (withAttributes ? 128 : 0)
        let count = Int(reply.number(UInt32.self, at: entry + 16))
        offset = reply.number(at: entry + 8)
        names.append(String(decoding: reply.bytes[(entry + 24)..<(entry + 24 + count)], as: UTF8.self))
        position = (entry + 24 + count + 7) & ~7
      }
    }
    call(.releaseDirectory, node, numbers(opened.handle, UInt64(0), UInt64(0)))
    return names
  }
}

/// Kinds of files (inode(7)).
enum Kind {
  static let pipe: UInt32 = 0o010000
  static let characterDevice: UInt32 = 0o020000
  static let blockDevice: UInt32 = 0o060000
}

/// Little-endian.
func numbers<each Value: FixedWidthInteger>(_ value: repeat each Value) -> [UInt8] {
  var bytes: [UInt8] = []
  for one in repeat each value { withUnsafeBytes(of: one.littleEndian) { bytes.append(contentsOf: $0) } }
  return bytes
}

/// With its zero.
func text(_ text: String) -> [UInt8] { Array(text.utf8) + [0] }

/// A folder of the host's that goes with the test.
final class Folder {
  let path: String

  init() throws {
    var template = Array("/tmp/trivisor-share-XXXXXX".utf8CString)
    let made = try #require(mkdtemp(&template))
    path = String(cString: made)
  }

  deinit { remove(path) }

  private func remove(_ path: String) {
    var status = stat()
    guard lstat(path, &status) == 0 else { return }
    guard status.st_mode & S_IFMT == S_IFDIR else {
      unlink(path)
      return
    }
    chmod(path, 0o700)
    for name in names(in: path) { remove(path + "/" + name) }
    rmdir(path)
  }

  private func names(in path: String) -> [String] {
    guard let stream = opendir(path) else { return [] }
    defer { closedir(stream) }
    var names: [String] = []
    while let entry = readdir(stream) {
      let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
        String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
      }
      if name != ".", name != ".." { names.append(name) }
    }
    return names
  }

  func put(_ name: String, _ contents: String, mode: mode_t = 0o644) {
    let descriptor = Glibc.open(path + "/" + name, O_WRONLY | O_CREAT | O_TRUNC, mode)
    #expect(descriptor >= 0)
    _ = contents.withCString { Glibc.write(descriptor, $0, strlen($0)) }
    fchmod(descriptor, mode)
    close(descriptor)
  }

  func make(_ name: String) { #expect(mkdir(path + "/" + name, 0o755) == 0) }

  func contents(_ name: String) -> String? {
    let descriptor = Glibc.open(path + "/" + name, O_RDONLY)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    let count = Glibc.read(descriptor, &buffer, buffer.count)
    return String(decoding: buffer.prefix(max(count, 0)), as: UTF8.self)
  }

  func status(_ name: String) -> stat? {
    var status = stat()
    return lstat(path + "/" + name, &status) == 0 ? status : nil
  }

  /// As it is shared.
  func shared(
    isReadOnly: Bool = false, freshness: SharedFolder.Freshness = .live, hidden: [String] = [],
    guest: OwnerMap.Owner = OwnerMap.Owner(user: 0, group: 0)
  ) -> SharedFolder {
    SharedFolder(
      path: FilePath(path), isReadOnly: isReadOnly, freshness: freshness, owners: OwnerMap(guest: guest),
      hidden: hidden.map { FilePath(path + "/" + $0) })
  }
}
