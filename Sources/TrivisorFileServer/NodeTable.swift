// What the guest's kernel knows, and which descriptors are open for it.
//
// A node is a name in a parent's folder, with the device and inode that were found there. Descriptors are only a cache over
// that, of a size that does not grow with what the guest looks at: a node whose descriptor was closed is opened anew from its
// parent's, which is found in the same way. What is found then may be another file than before, because the host's tree
// changes under us. For whoever asks by a path the name is what counts: the node stands for the new file from then on. For
// whoever has the file open, the open file is what counts, and it is looked at first.

import TrivisorCLinux
import Glibc
import SystemPackage

/// The nodes of one share.
final class NodeTable {
  /// The number of a share's own folder (FUSE_ROOT_ID in Linux' include/uapi/linux/fuse.h).
  static let rootNumber: UInt64 = 1
  /// No path is longer than 4096 bytes, so none has so many components.
  private static let depthLimit = 4096

  let root: FileNode
  private let count = FileNode.Count()
  private var nodes: [UInt64: FileNode] = [:]
  private var byIdentity: [FileIdentity: FileNode] = [:]
  private(set) var nextNumber = NodeTable.rootNumber + 1
  private let limit: Int
  /// Nodes with a cached descriptor, and where the search for one to close goes on.
  private var cached: [FileNode?]
  private var hand = 0

  /// - Parameters:
  ///   - descriptor: of the folder; closed with the table.
  ///   - limit: nodes that there may be.
  ///   - descriptorLimit: descriptors that may be open for them, beside the folder's own.
  init(root descriptor: Int32, _ status: stat, hidden: HiddenPaths?, limit: Int, descriptorLimit: Int) {
    root = FileNode(Self.rootNumber, status, backing: .host, parent: nil, name: nil, count: count)
    root.descriptor = descriptor
    root.hidden = hidden
    root.lookups = 1
    self.limit = limit
    cached = Array(repeating: nil, count: max(descriptorLimit, 16))
    nodes[root.number] = root
    byIdentity[root.identity] = root
  }

  /// How many there are, the root and those that are only kept for their children among them.
  var nodeCount: Int { count.value }

  /// Forgets all but the root.
  func reset() {
    for slot in cached.indices { cached[slot] = nil }
    nodes = [root.number: root]
    byIdentity = [root.identity: root]
    root.handles = []
    root.lookups = 1
  }

  /// - Throws: ESTALE for a number that was never given out, or was forgotten: no guest's kernel asks for it.
  func node(_ number: UInt64) throws(Errno) -> FileNode {
    guard let node = nodes[number] else { throw .staleNFSFileHandle }
    return node
  }

  /// The node that stands for what was found under a name, made if there is none.
  func node(
    for status: stat, in parent: FileNode, _ name: FileName, backing: FileNode.Backing = .host, descriptor: Int32 = -1
  ) throws(Errno) -> FileNode {
    let identity = FileIdentity(status)
    if let known = byIdentity[identity], known.kind == status.kind, known.backing == backing {
      // By the name under which it was met last it will be found again.
      if known !== root, backing == .host {
        known.parent = parent
        known.name = name
      }
      known.hidden = parent.hidden?.below[name] ?? known.hidden
      return known
    }
    guard count.value < limit else { throw .noMemory }
    let node = FileNode(nextNumber, status, backing: backing, parent: parent, name: name, count: count)
    node.hidden = parent.hidden?.below[name]
    node.descriptor = descriptor
    nextNumber += 1
    nodes[node.number] = node
    byIdentity[identity] = node
    return node
  }

  /// The node for a file that was found before, if the guest's kernel knows it.
  func node(known identity: FileIdentity) -> FileNode? { byIdentity[identity] }

  /// The guest's kernel gave back so many look-ups.
  func forget(_ number: UInt64, _ lookups: UInt64) {
    guard let node = nodes[number], node !== root, node.backing != .fixed else { return }
    node.lookups -= min(node.lookups, lookups)
    dropIfUnused(node)
  }

  /// Forgets a node that the guest's kernel was not told of after all, or not any more.
  func dropIfUnused(_ node: FileNode) {
    guard node.lookups == 0, node !== root, node.backing != .fixed else { return }
    nodes[node.number] = nil
    if byIdentity[node.identity] === node { byIdentity[node.identity] = nil }
    closeCached(node)
  }

  // MARK: Descriptors

  /// Calls `body` with an O_PATH descriptor of a node, which stays open meanwhile.
  /// - Parameter openFile: a descriptor of something that the guest has opened, by its number.
  func withDescriptor<Result>(
    of node: FileNode, openFile: (UInt64) -> Int32?, _ body: (Int32) throws(Errno) -> Result
  ) throws(Errno) -> Result {
    guard node.backing != .closed else { throw .permissionDenied }
    if node.descriptor < 0, let handle = node.handles.first, let descriptor = openFile(handle) {
      // As its file stays open, the name may by now be another file's.
      return try body(descriptor)
    }
    let descriptor = try resolve(node)
    node.pins += 1
    defer { node.pins -= 1 }
    return try body(descriptor)
  }

  /// The descriptor, opened if need be.
  private func resolve(_ node: FileNode) throws(Errno) -> Int32 {
    node.isWarm = true
    if node.descriptor >= 0 { return node.descriptor }
    var missing: [FileNode] = []
    var place: FileNode? = node
    while let current = place, current.descriptor < 0 {
      missing.append(current)
      guard missing.count <= Self.depthLimit else { throw .fileNameTooLong }
      place = current.parent
    }
    guard var above = place else { throw .noSuchFileOrDirectory }
    above.isWarm = true
    while let current = missing.popLast() {
      let parent = above
      parent.pins += 1
      defer { parent.pins -= 1 }
      try open(current, in: parent)
      above = current
    }
    return node.descriptor
  }

  private func open(_ node: FileNode, in parent: FileNode) throws(Errno) {
    guard let name = node.name, node.backing == .host else { throw .noSuchFileOrDirectory }
    let (descriptor, status) = try Self.open(name, in: parent.descriptor)
    let identity = FileIdentity(status)
    guard status.kind == node.kind else {
      close(descriptor)
      throw .noSuchFileOrDirectory
    }
    guard identity.device == parent.identity.device || FileSystemKinds.isOrdinary(descriptor, device: identity.device)
    else {
      close(descriptor)
      throw .permissionDenied
    }
    if identity != node.identity {
      if byIdentity[node.identity] === node { byIdentity[node.identity] = nil }
      node.identity = identity
      if byIdentity[identity] == nil { byIdentity[identity] = node }
    }
    keep(descriptor, for: node)
  }

  /// Opens one name in a folder with O_PATH: it is not followed, and nothing happens to what it stands for.
  static func open(_ name: FileName, in folder: Int32) throws(Errno) -> (Int32, stat) {
    let flags = CLINUX_O_PATH | O_NOFOLLOW | O_CLOEXEC
    let descriptor = clinux_open_beneath(folder, name.characters, flags, 0)
    guard descriptor >= 0 else { throw Errno(rawValue: errno) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else {
      let error = Errno(rawValue: errno)
      close(descriptor)
      throw error
    }
    return (descriptor, status)
  }

  /// Puts a descriptor into the cache, for which another one may be closed.
  private func keep(_ descriptor: Int32, for node: FileNode) {
    node.descriptor = descriptor
    node.isWarm = true
    // Twice round finds one, unless all are pinned; a request pins two at most.
    for _ in 0..<(2 * cached.count + 1) {
      hand = (hand + 1) % cached.count
      if let old = cached[hand] {
        if old.pins > 0 { continue }
        if old.isWarm {
          old.isWarm = false
          continue
        }
        closeDescriptor(old)
      }
      cached[hand] = node
      node.slot = hand
      return
    }
  }

  private func closeDescriptor(_ node: FileNode) {
    if node.descriptor >= 0 { close(node.descriptor) }
    node.descriptor = -1
    node.slot = -1
  }

  private func closeCached(_ node: FileNode) {
    guard node.slot >= 0 else { return }
    cached[node.slot] = nil
    closeDescriptor(node)
  }

  // MARK: Saved state

  /// While a saved state takes the place of this one: its nodes, those among them that only live for their children.
  private var restoring: [UInt64: FileNode] = [:]

  /// All but the root and what the share brings along, each behind its parent.
  func save() -> [FileServer.Saved.Node] {
    var saved: [FileServer.Saved.Node] = []
    var seen: Set<UInt64> = [root.number]
    for number in nodes.keys.sorted() {
      var chain: [FileNode] = []
      var place = nodes[number]
      while let node = place, !seen.contains(node.number) {
        chain.append(node)
        seen.insert(node.number)
        place = node.parent
      }
      for node in chain.reversed() where node.backing != .fixed {
        guard let parent = node.parent, let name = node.name else { continue }
        saved.append(
          FileServer.Saved.Node(
            number: node.number, parent: parent.number, name: name.characters.dropLast().map { UInt8(bitPattern: $0) },
            mode: node.kind, device: node.identity.device, inode: node.identity.inode, lookups: node.lookups,
            isClosed: node.backing == .closed))
      }
    }
    return saved
  }

  /// Takes a state that was found to be sound. Until `endRestoring`, `restored` finds all of its nodes.
  func restore(_ saved: FileServer.Saved) {
    restoring = [root.number: root]
    nextNumber = max(saved.nextNode, Self.rootNumber + 1)
    for entry in saved.nodes {
      guard let parent = restoring[entry.parent], let name = try? FileName(entry.name) else { continue }
      var status = stat()
      status.st_mode = entry.mode & S_IFMT
      status.st_dev = UInt(entry.device)
      status.st_ino = UInt(entry.inode)
      let node = FileNode(
        entry.number, status, backing: entry.isClosed ? .closed : .host, parent: parent, name: name, count: count)
      node.lookups = entry.lookups
      node.hidden = parent.hidden?.below[name]
      restoring[node.number] = node
      guard node.lookups > 0 else { continue }
      nodes[node.number] = node
      byIdentity[node.identity] = node
    }
  }

  func restored(_ number: UInt64) -> FileNode? { restoring[number] }

  func endRestoring() { restoring = [:] }
}
