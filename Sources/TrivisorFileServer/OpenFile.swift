import Glibc

/// What the guest has opened: a file, or a folder with the place where reading it goes on.
final class OpenFile {
  let node: FileNode
  let descriptor: Int32
  /// As the guest opened it.
  let flags: Int32
  /// Of a folder: entries as getdents64(2) gives them, and where the next one lies.
  var entries: [UInt8] = []
  var position = 0
  /// Whether `entries` is all that there is.
  var isListed = false
  /// Where the next entry is for lseek(2).
  var offset: UInt64 = 0

  init(_ node: FileNode, _ descriptor: Int32, flags: Int32) {
    self.node = node
    self.flags = flags
    self.descriptor = descriptor
  }

  deinit { if descriptor >= 0 { close(descriptor) } }
}
