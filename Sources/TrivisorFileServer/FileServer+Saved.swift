// What a guest's kernel knows of a share, as a value: names, not descriptors. Whoever goes on with it finds the files by their
// names, on this host or on another with the same folder. A file that was open and has no name any more can't be found: its
// handle is none, and the guest gets EBADF.

import Glibc
import SystemPackage
import TrivisorVMM

extension FileServer: Restorable {
  /// The guest's nodes and what it has open.
  public struct Saved: SavedState {
    /// Raised with each change of what the fields mean.
    public static let version = 1

    struct Node: Codable, Sendable, Equatable {
      var number: UInt64
      /// Zero for the folder itself.
      var parent: UInt64
      var name: [UInt8]
      var mode: UInt32
      var device: UInt64
      var inode: UInt64
      var lookups: UInt64
      var isClosed: Bool
    }

    struct Handle: Codable, Sendable, Equatable {
      var number: UInt64
      var node: UInt64
      var flags: Int32
    }

    var isInitialized: Bool
    var isReadOnly: Bool
    var nextNode: UInt64
    var nextHandle: UInt64
    /// Each behind its parent.
    var nodes: [Node]
    var handles: [Handle]
  }

  /// The state at this moment.
  public func save() -> Saved {
    Saved(
      isInitialized: isInitialized, isReadOnly: isReadOnly, nextNode: share.nodes.nextNumber,
      nextHandle: share.nextHandle, nodes: share.nodes.save(),
      handles: share.handles.map { Saved.Handle(number: $0.key, node: $0.value.node.number, flags: $0.value.flags) }
        .sorted { $0.number < $1.number })
  }

  /// Replaces the state.
  /// - Throws: `RestoreFailure`; nothing has changed then.
  public func restore(_ saved: Saved) throws(RestoreFailure) {
    let subject = "shared folder"
    try restoring(subject, requires: saved.isReadOnly == isReadOnly, "it was shared with other rights")
    try restoring(
      subject,
      requires: saved.nodes.count < share.limits.nodes && saved.handles.count <= share.limits.openFiles,
      "it knows \(saved.nodes.count) files and has \(saved.handles.count) open")
    var known: Set<UInt64> = [NodeTable.rootNumber]
    for node in saved.nodes {
      try restoring(
        subject,
        requires: known.contains(node.parent) && node.number < saved.nextNode && (try? FileName(node.name)) != nil
          && known.insert(node.number).inserted,
        "its file \(node.number) lies in none that comes before, or has no name")
    }
    var handleNumbers: Set<UInt64> = []
    for handle in saved.handles {
      try restoring(
        subject,
        requires: known.contains(handle.node) && handle.number < saved.nextHandle
          && handleNumbers.insert(handle.number).inserted, "its handle \(handle.number) is of no file")
    }
    reset()
    share.nodes.restore(saved)
    isInitialized = saved.isInitialized
    share.nextHandle = saved.nextHandle
    for handle in saved.handles {
      guard let node = share.nodes.restored(handle.node) else { continue }
      if let file = try? reopen(node, flags: handle.flags) { share.keep(file, as: handle.number) }
    }
    share.nodes.endRestoring()
  }

  /// What was open before, opened again: no file is cut.
  private func reopen(_ node: FileNode, flags: Int32) throws(Errno) -> OpenFile {
    guard node.kind == S_IFDIR else {
      return OpenFile(node, try share.open(node, flags: flags & ~(O_TRUNC | O_CREAT | O_EXCL)), flags: flags)
    }
    guard node.backing == .host else { return OpenFile(node, -1, flags: flags) }
    let descriptor = try share.withDescriptor(of: node) { path throws(Errno) in
      try FileShare.reopen(path, flags: O_RDONLY | O_DIRECTORY)
    }
    return OpenFile(node, descriptor, flags: flags)
  }
}
