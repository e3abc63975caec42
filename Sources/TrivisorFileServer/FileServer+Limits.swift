import Glibc

extension FileServer {
  /// Bounds of what a guest may cost.
  public struct Limits: Sendable {
    /// Files and folders that its kernel may know at the same time.
    public var nodes: Int
    /// Files and folders that may be open for it.
    public var openFiles: Int
    /// Descriptors that are kept open to find others.
    public var cachedDescriptors: Int

    /// Takes all three.
    public init(nodes: Int = 1 << 20, openFiles: Int = 4096, cachedDescriptors: Int = 1024) {
      self.nodes = nodes
      self.openFiles = openFiles
      self.cachedDescriptors = cachedDescriptors
    }

    /// What several servers of one process may have each. The process gets as many descriptors as it is allowed.
    /// - Parameter memory: the guest's; its kernel keeps more than 512 bytes for each file that it knows.
    public init(forShares count: Int, memory: UInt64) {
      // Beyond this, descriptors only cost memory.
      let most: rlim_t = 1 << 16
      // For everything else: images, pipes, event descriptors.
      let others = 256
      var limit = rlimit()
      getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
      if limit.rlim_cur < most {
        limit.rlim_cur = min(limit.rlim_max, most)
        setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
      }
      let each = max((Int(clamping: min(limit.rlim_cur, most)) - others) / max(count, 1), 64)
      openFiles = each * 3 / 4
      cachedDescriptors = min(each / 4, 4096)
      nodes = max(Int(clamping: memory / 512) / max(count, 1), 1 << 16)
    }
  }
}
