import TrivisorCLinux
import Glibc
import SystemPackage

/// Names and attributes.
struct FileLookups {
  let share: FileShare

  func lookup(_ request: inout FileRequest, _ reply: inout FileReply) throws(Errno) {
    let name = try request.name()
    let parent = try share.nodes.node(request.node)
    do throws(Errno) {
      let (node, status) = try share.find(name, in: parent)
      share.putEntry(node, status, &reply)
    } catch {
      guard error == .noSuchFileOrDirectory, share.folder.freshness == .snapshot else { throw error }
      // That there is nothing is worth keeping, too: node 0.
      share.putEntry(number: 0, stat(), &reply)
    }
  }

  func getAttributes(_ request: inout FileRequest, _ reply: inout FileReply) throws(Errno) {
    let flags: UInt32 = try request.number()
    try request.skip(4)
    let handle: UInt64 = try request.number()
    let node = try share.nodes.node(request.node)
    // FUSE_GETATTR_FH
    let file = flags & 1 != 0 ? try? share.openFile(handle, of: node.number) : nil
    share.putAttributes(try share.status(of: node, file), &reply)
  }

  func readLink(_ request: FileRequest, _ reply: inout FileReply) throws(Errno) {
    let target = try share.withDescriptor(of: request.node) { descriptor throws(Errno) -> [UInt8] in
      var target = [CChar](repeating: 0, count: Int(PATH_MAX))
      let count = readlinkat(descriptor, "", &target, target.count)
      guard count >= 0 else { throw errno == ENOENT ? .invalidArgument : Errno(rawValue: errno) }
      return target[..<count].map { UInt8(bitPattern: $0) }
    }
    reply.put(target)
  }

  func statistics(_ reply: inout FileReply) throws(Errno) {
    var status = statvfs()
    guard fstatvfs(share.nodes.root.descriptor, &status) == 0 else { throw Errno(rawValue: errno) }
    // struct fuse_kstatfs
    for value in [status.f_blocks, status.f_bfree, status.f_bavail, status.f_files, status.f_ffree] {
      reply.put(UInt64(value))
    }
    for value in [status.f_bsize, status.f_namemax, status.f_frsize] { reply.put(UInt32(clamping: value)) }
    reply.put([UInt8](repeating: 0, count: 4 + 24))
  }
}
