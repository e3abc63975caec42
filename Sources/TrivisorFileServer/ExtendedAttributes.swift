// Extended attributes by their name spaces (xattr(7)):
//
//     user       as on the host
//     security   can be read, but for security.capability: a file's capabilities are no rights in the guest
//     trusted, system   not there: what overlay file systems and access control lists of the host say is not the guest's
//
// Of a snapshot there are none: they would be asked for at every step, and its promise is files.

import TrivisorCLinux
import Glibc
import SystemPackage

struct ExtendedAttributes {
  let share: FileShare

  /// Linux: XATTR_SIZE_MAX, XATTR_LIST_MAX, XATTR_NAME_MAX.
  private static let valueLimit = 64 << 10
  private static let nameLimit = 255

  private enum Right {
    case none, reading, all
  }

  private static func right(_ name: [UInt8]) -> Right {
    if name.starts(with: "user.".utf8) { return .all }
    if name.starts(with: "security.".utf8), !name.elementsEqual("security.capability".utf8) { return .reading }
    return .none
  }

  private func attributeName(_ request: inout FileRequest) throws(Errno) -> ([CChar], Right) {
    let name = try request.text()
    guard !name.isEmpty, name.count <= Self.nameLimit else { throw .invalidArgument }
    return (name.map { CChar(bitPattern: $0) } + [0], Self.right(name))
  }

  func getExtendedAttribute(_ request: inout FileRequest, _ reply: inout FileReply) throws(Errno) {
    let size = Int(try request.number() as UInt32)
    try request.skip(4)
    let (name, right) = try attributeName(&request)
    try refuseInSnapshot()
    guard right != .none else { throw .noData }
    let value = try readAttribute(request.node) { getxattr($0, name, $1, $2) }
    try put(value, limit: size, &reply)
  }

  func listExtendedAttributes(_ request: inout FileRequest, _ reply: inout FileReply) throws(Errno) {
    let size = Int(try request.number() as UInt32)
    try refuseInSnapshot()
    let list = try readAttribute(request.node) { path, buffer, size in
      listxattr(path, buffer?.assumingMemoryBound(to: CChar.self), size)
    }
    let shown = list.split(separator: 0).filter { Self.right(Array($0)) != .none }
    try put(Array(shown.map { Array($0) + [0] }.joined()), limit: size, &reply)
  }

  func setExtendedAttribute(_ request: inout FileRequest) throws(Errno) {
    let size = Int(try request.number() as UInt32)
    let flags: UInt32 = try request.number()
    let (name, right) = try attributeName(&request)
    try refuseInSnapshot()
    try share.refuseIfReadOnly()
    guard right == .all else { throw .notPermitted }
    guard size == request.arguments.count, size <= Self.valueLimit else { throw .invalidArgument }
    let value = Array(request.arguments)
    try withAttributes(of: request.node) { path throws(Errno) in
      guard setxattr(path, name, value, value.count, Int32(bitPattern: flags & 3)) == 0 else {
        throw Errno(rawValue: errno)
      }
    }
  }

  func removeExtendedAttribute(_ request: inout FileRequest) throws(Errno) {
    let (name, right) = try attributeName(&request)
    try refuseInSnapshot()
    try share.refuseIfReadOnly()
    guard right == .all else { throw .notPermitted }
    try withAttributes(of: request.node) { path throws(Errno) in
      guard removexattr(path, name) == 0 else { throw Errno(rawValue: errno) }
    }
  }

  /// After this error the guest's kernel does not ask again.
  private func refuseInSnapshot() throws(Errno) {
    if share.folder.freshness == .snapshot { throw .noFunction }
  }

  /// Calls `body` with a path to a file or folder; others have no attributes of users'.
  private func withAttributes<Result>(
    of number: UInt64, _ body: (String) throws(Errno) -> Result
  ) throws(Errno) -> Result {
    let node = try share.nodes.node(number)
    guard node.backing == .host, [S_IFREG, S_IFDIR].contains(node.kind) else { throw .notSupported }
    return try share.withDescriptor(of: node) { descriptor throws(Errno) in try body(FileShare.path(descriptor)) }
  }

  private func readAttribute(
    _ number: UInt64, _ call: (String, UnsafeMutableRawPointer?, Int) -> Int
  ) throws(Errno) -> [UInt8] {
    try withAttributes(of: number) { path throws(Errno) in
      var failure: Errno?
      let value = [UInt8](unsafeUninitializedCapacity: Self.valueLimit) { buffer, initialized in
        let count = call(path, buffer.baseAddress, buffer.count)
        initialized = max(count, 0)
        if count < 0 { failure = Errno(rawValue: errno) }
      }
      if let failure { throw failure }
      return value
    }
  }

  /// The value, or with a limit of zero how long it is (struct fuse_getxattr_out).
  private func put(_ value: [UInt8], limit: Int, _ reply: inout FileReply) throws(Errno) {
    if limit == 0 {
      reply.put(UInt32(value.count))
      reply.put(UInt32(0))
    } else {
      guard value.count <= limit else { throw .outOfRange }
      reply.put(value)
    }
  }
}
