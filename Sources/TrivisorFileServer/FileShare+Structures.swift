import TrivisorCLinux
import Glibc

/// What replies tell of files, as the protocol's structures have it.
extension FileShare {
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
