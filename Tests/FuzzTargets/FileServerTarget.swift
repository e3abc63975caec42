import Glibc
import SystemPackage
import TrivisorDeviceFuzz
import TrivisorFileServer
import TrivisorVMM

/// The server of shared folders, to a guest's kernel that asks for anything: each request is a form, its place and its arguments.
final class FileServerTarget: FuzzTarget {
  static let name = "file-server"
  static let sizeLimit = 1000
  static let seeds: [[UInt8]] = [
    // Look "inner" up, then "file" in it; open, read, write, and list the root.
    [0, 1, 1, 6] + Array("inner\0".utf8) + [1, 2, 5] + Array("file\0".utf8) + [14, 3, 8, 2, 0, 0, 0, 0, 0, 0, 0]
      + [15, 3, 40, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
      + [27, 1, 8, 0, 0, 0, 0, 0, 0, 0, 0, 28, 1, 40, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16],
    [0, 9, 1, 10, 0xff, 1, 0, 0, 0, 0, 0, 0, 0x64, 0, 8, 1, 16, 0xa4, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x66, 0],
  ]

  /// FUSE_INIT, FUSE_DESTROY, FUSE_FALLOCATE (Linux: include/uapi/linux/fuse.h): begun anew, there is nothing to lose; and it
  /// would fill the disk, as it may.
  private static let leftOut: Set<UInt32> = [26, 38, 43]
  private static let headerSize = 40
  private static let room = 8192

  private let folder: FuzzFolder
  private let outside: FuzzFolder
  /// Whether the folder is as it was filled.
  private var isFresh = false
  private let reply = UnsafeMutableRawBufferPointer.allocate(byteCount: room, alignment: 8)

  init() throws {
    folder = try FuzzFolder()
    outside = try FuzzFolder()
  }

  deinit { reply.deallocate() }

  private func fill() {
    guard !isFresh else { return }
    isFresh = true
    folder.clear()
    mkdir(folder.path.appending("inner").string, 0o755)
    try? folder.put("inner/file", Array("inside".utf8))
    symlink(outside.path.string, folder.path.appending("link").string)
  }

  func run(_ bytes: UnsafeRawBufferPointer) {
    fill()
    var input = FuzzInput(bytes)
    let shared = SharedFolder(path: folder.path, isReadOnly: input.byte() & 1 == 1)
    if !shared.isReadOnly { isFresh = false }
    let limits = FileServer.Limits(nodes: 100, openFiles: 20, cachedDescriptors: 8)
    guard let server = try? FileServer(shared, limits: limits) else { preconditionFailure("no folder") }
    send(26, 0, [7, 0, 0, 0, 38, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], to: server)
    while !input.isEmpty {
      let operation = UInt32(input.byte())
      let node = UInt64(input.byte())
      let arguments = Array(input.bytes(Int(input.byte())))
      if !Self.leftOut.contains(operation) { send(operation, node, arguments, to: server) }
    }
    server.reset()
    var status = stat()
    let isUntouched =
      lstat(outside.path.string, &status) == 0 && status.st_nlink == 2 && status.st_mode & 0o777 == 0o700
    precondition(isUntouched, "something changed outside the folder")
  }

  /// struct fuse_in_header: length, operation, unique, node, user, group, process, padding.
  private func send(_ operation: UInt32, _ node: UInt64, _ arguments: [UInt8], to server: FileServer) {
    func bytes<Value: FixedWidthInteger>(_ value: Value) -> [UInt8] {
      withUnsafeBytes(of: value.littleEndian, Array.init)
    }
    var request = bytes(UInt32(Self.headerSize + arguments.count)) + bytes(operation) + bytes(UInt64(1)) + bytes(node)
    request += bytes(UInt32(0)) + bytes(UInt32(0)) + bytes(UInt32(1)) + bytes(UInt32(0)) + arguments
    request.withUnsafeMutableBytes { raw in
      var piece = iovec(iov_base: raw.baseAddress, iov_len: raw.count)
      var place = iovec(iov_base: reply.baseAddress, iov_len: reply.count)
      withUnsafeMutablePointer(to: &piece) { piece in
        withUnsafeMutablePointer(to: &place) { place in
          var readable = BufferList(pointer: piece, count: 1, byteCount: raw.count)
          var writable = BufferList(pointer: place, count: 1, byteCount: reply.count)
          if case .completed(let count) = server.answer(&readable, &writable) { precondition(count <= reply.count) }
        }
      }
    }
  }
}
