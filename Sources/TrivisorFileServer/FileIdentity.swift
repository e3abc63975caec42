import Glibc

/// Which file it is on the host, whatever its name.
struct FileIdentity: Hashable {
  let device: UInt64
  let inode: UInt64

  init(_ status: stat) {
    device = UInt64(status.st_dev)
    inode = UInt64(status.st_ino)
  }
}

extension stat {
  /// S_IFREG and so on.
  var kind: UInt32 { st_mode & S_IFMT }
}

/// Mode bits by which a program gets other rights than those of who runs it (inode(7)): S_ISUID and S_ISGID.
enum FilePrivileges {
  static let all: mode_t = 0o6000
}
