import Glibc
import TrivisorVMM

/// What goes back: a header, and what the operation has put behind it.
struct FileReply {
  /// Bytes of struct fuse_out_header.
  static let headSize = 16

  private let head: [UnsafeMutableRawBufferPointer]
  private let unique: UInt64
  /// Where contents of files are stored directly; then `bytes` stays empty.
  var room: BufferList
  /// Everything else.
  private(set) var bytes: [UInt8] = []
  /// Bytes stored to `room`.
  var stored = 0

  /// - Parameter room: all that the guest gave; `nil` if there is no room for the header.
  init?(unique: UInt64, room: BufferList) {
    var room = room
    guard let head = room.takeFirst(Self.headSize) else { return nil }
    self.head = head
    self.unique = unique
    self.room = room
  }

  mutating func put<Value: FixedWidthInteger>(_ value: Value) {
    withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
  }

  mutating func put(_ more: some Sequence<UInt8>) { bytes.append(contentsOf: more) }

  mutating func pad(to multiple: Int) {
    while bytes.count % multiple != 0 { bytes.append(0) }
  }

  /// Takes back what was put since there were so many bytes.
  mutating func shorten(to count: Int) { bytes.removeLast(max(bytes.count - count, 0)) }

  /// Stores all of it.
  /// - Parameter error: of Linux' numbers, which x86-64 hosts share, or zero; with an error there is only the header.
  /// - Returns: how many bytes.
  consuming func finish(error: Int32) -> UInt32 {
    var length = Self.headSize
    if error == 0 {
      if !bytes.isEmpty { stored = bytes.withUnsafeBytes { room.write($0) } }
      length += stored
    }
    var contents: [UInt8] = []
    contents.reserveCapacity(Self.headSize)
    withUnsafeBytes(of: UInt32(length)) { contents.append(contentsOf: $0) }
    withUnsafeBytes(of: -error) { contents.append(contentsOf: $0) }
    withUnsafeBytes(of: unique) { contents.append(contentsOf: $0) }
    var done = 0
    for piece in head {
      piece.copyBytes(from: contents[done..<(done + piece.count)])
      done += piece.count
    }
    return UInt32(length)
  }
}
