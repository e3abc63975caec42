import Glibc
import SystemPackage
import TrivisorVMM

/// A request as the guest's kernel put it: the header, and a copy of what follows it.
///
/// Nothing is looked at in guest memory, where it may change meanwhile, but the contents of a write, which mean nothing to
/// the server.
struct FileRequest {
  /// Bytes of struct fuse_in_header.
  static let headSize = 40
  /// Structures, two names of 255 bytes, or an extended attribute with its name, are no longer.
  static let argumentLimit = 72 << 10

  let operation: UInt32
  let unique: UInt64
  let node: UInt64
  let user: UInt32
  let group: UInt32
  private(set) var arguments: ArraySlice<UInt8> = []

  /// - Parameter pieces: loses the header.
  /// - Returns: `nil` where there is no whole header.
  init?(_ pieces: inout BufferList) {
    var head = (UInt64(0), UInt64(0), UInt64(0), UInt64(0), UInt64(0))
    guard withUnsafeMutableBytes(of: &head, { pieces.read(into: $0) }) else { return nil }
    // len, opcode; unique; nodeid; uid, gid; pid, lengths of extensions.
    operation = UInt32(truncatingIfNeeded: head.0 >> 32)
    unique = head.1
    node = head.2
    user = UInt32(truncatingIfNeeded: head.3)
    group = UInt32(truncatingIfNeeded: head.3 >> 32)
    let length = Int(UInt32(truncatingIfNeeded: head.0))
    pieces.keepFirst(max(length - Self.headSize, 0))
  }

  /// Copies so many bytes more, or all that there are, for the methods below.
  /// - Throws: E2BIG where there are more than any request has.
  mutating func take(_ count: Int? = nil, from pieces: inout BufferList) throws(Errno) {
    let count = count ?? pieces.byteCount
    guard count <= Self.argumentLimit else { throw .argListTooLong }
    guard count <= pieces.byteCount else { throw .invalidArgument }
    arguments =
      [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
        _ = pieces.read(into: UnsafeMutableRawBufferPointer(rebasing: UnsafeMutableRawBufferPointer(buffer)[..<count]))
        initialized = count
      }[...]
  }

  /// The next little-endian number.
  mutating func number<Value: FixedWidthInteger>(_ type: Value.Type = Value.self) throws(Errno) -> Value {
    let size = MemoryLayout<Value>.size
    guard arguments.count >= size else { throw .invalidArgument }
    var value: Value = 0
    for (index, byte) in arguments.prefix(size).enumerated() { value |= Value(truncatingIfNeeded: byte) << (8 * index) }
    arguments = arguments.dropFirst(size)
    return value
  }

  mutating func skip(_ count: Int) throws(Errno) {
    guard arguments.count >= count else { throw .invalidArgument }
    arguments = arguments.dropFirst(count)
  }

  /// The next text up to its zero.
  mutating func text() throws(Errno) -> [UInt8] {
    guard let end = arguments.firstIndex(of: 0) else { throw .invalidArgument }
    let text = Array(arguments[..<end])
    arguments = arguments[(end + 1)...]
    return text
  }

  /// The next text, which must be the name of one entry of a folder: no path, and not the folder itself or its parent.
  mutating func name() throws(Errno) -> FileName {
    try FileName(try text())
  }
}

/// One component of a path, as system calls take it.
struct FileName: Hashable {
  /// Linux: NAME_MAX.
  private static let limit = 255

  /// With the closing zero.
  let characters: [CChar]

  init(_ bytes: some Collection<UInt8>) throws(Errno) {
    guard bytes.count <= Self.limit else { throw .fileNameTooLong }
    guard !bytes.isEmpty, !bytes.contains(0), !bytes.contains(UInt8(ascii: "/")), !Self.isDots(bytes) else {
      throw .invalidArgument
    }
    characters = bytes.map { CChar(bitPattern: $0) } + [0]
  }

  /// "." or "..".
  static func isDots(_ bytes: some Collection<UInt8>) -> Bool {
    bytes.count <= 2 && !bytes.isEmpty && bytes.allSatisfy { $0 == UInt8(ascii: ".") }
  }
}
