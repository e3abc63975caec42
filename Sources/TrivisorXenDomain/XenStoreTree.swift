import TrivisorVMM

/// The nodes of a store: bytes and permissions under absolute paths. A node's parents exist as long as it does.
struct XenStoreTree {
  struct Node: Codable, Sendable, Equatable {
    var value: [UInt8] = []
    /// As XS_SET_PERMS says them: an owner, then others.
    var permissions: [UInt8]
  }

  /// All keys and values together, in bytes.
  private static let capacity = 1 << 20

  private var nodes: [String: Node]
  private var size = 0
  /// Whose the nodes are that nobody else has made.
  private let owner: Int

  /// - Parameter owner: a domain.
  init(owner: Int) {
    self.owner = owner
    nodes = ["/": Node(permissions: Array("n0\0".utf8))]
  }

  subscript(path: String) -> Node? { nodes[path] }

  static func parent(_ path: String) -> String {
    guard let slash = path.lastIndex(of: "/"), slash > path.startIndex else { return "/" }
    return String(path[..<slash])
  }

  /// Sets a value, or makes a node without one where there is none (`nil`), with all its parents.
  /// - Returns: whether there was room.
  mutating func write(_ path: String, _ value: [UInt8]?) -> Bool {
    var added = 0
    var missing: [String] = []
    var place = path
    while nodes[place] == nil {
      missing.append(place)
      added += place.utf8.count
      place = Self.parent(place)
    }
    added += value.map { $0.count - (nodes[path]?.value.count ?? 0) } ?? 0
    guard size + added <= Self.capacity else { return false }
    size += added
    for place in missing { nodes[place] = Node(permissions: Array("n\(owner)\0".utf8)) }
    if let value { nodes[path]?.value = value }
    return true
  }

  /// - Returns: whether there was such a node.
  mutating func setPermissions(_ path: String, _ permissions: [UInt8]) -> Bool {
    guard nodes[path] != nil else { return false }
    nodes[path]?.permissions = permissions
    return true
  }

  /// Removes a node and all below it.
  mutating func remove(_ path: String) {
    for (key, node) in nodes where key == path || key.hasPrefix(path + "/") {
      nodes[key] = nil
      size -= key.utf8.count + node.value.count
    }
  }

  /// Names below a node.
  func children(_ path: String) -> [String] {
    let prefix = path == "/" ? "/" : path + "/"
    return nodes.keys.filter { $0.hasPrefix(prefix) && $0 != "/" && !$0.dropFirst(prefix.count).contains("/") }.map {
      String($0.dropFirst(prefix.count))
    }.sorted()
  }
}

// MARK: Saved form

extension XenStoreTree {
  /// By path.
  typealias Saved = [String: Node]

  func save() -> Saved { nodes }

  init(_ saved: Saved, owner: Int) throws(RestoreFailure) {
    nodes = saved
    self.owner = owner
    try restoring(Domain.savedSubject, requires: saved["/"] != nil, "its store has no root")
    for (path, node) in saved {
      size += path == "/" ? 0 : path.utf8.count + node.value.count
      try restoring(
        Domain.savedSubject,
        requires: saved[Self.parent(path)] != nil && XenStore.isPath(path)
          && node.permissions.count <= XenStore.maximumPayload && size <= Self.capacity,
        "its store is too large, or has a node without a parent")
    }
  }
}
