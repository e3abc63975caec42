/// What a request asks for (enum fuse_opcode in Linux' include/uapi/linux/fuse.h).
enum FileOperation: UInt32 {
  case lookup = 1
  case forget = 2
  case getAttributes = 3
  case setAttributes = 4
  case readLink = 5
  case makeSymbolicLink = 6
  case makeNode = 8
  case makeDirectory = 9
  case unlink = 10
  case removeDirectory = 11
  case rename = 12
  case link = 13
  case open = 14
  case read = 15
  case write = 16
  case statistics = 17
  case release = 18
  case synchronize = 20
  case setExtendedAttribute = 21
  case getExtendedAttribute = 22
  case listExtendedAttributes = 23
  case removeExtendedAttribute = 24
  case initialize = 26
  case openDirectory = 27
  case readDirectory = 28
  case releaseDirectory = 29
  case synchronizeDirectory = 30
  case create = 35
  case interrupt = 36
  case destroy = 38
  case batchForget = 42
  case allocate = 43
  case readDirectoryPlus = 44
  case renameWithFlags = 45
  case seek = 46

  /// Requests that nobody waits for.
  var hasReply: Bool {
    switch self {
    case .forget, .batchForget, .interrupt: false
    default: true
    }
  }
}

/// What both sides agree on at first (FUSE_INIT; the FUSE_… flags of include/uapi/linux/fuse.h).
enum FileServerFeature {
  static let asyncRead: UInt64 = 1 << 0
  static let atomicTruncation: UInt64 = 1 << 3
  static let bigWrites: UInt64 = 1 << 5
  static let automaticInvalidation: UInt64 = 1 << 12
  static let readDirectoryPlus: UInt64 = 1 << 13
  static let readDirectoryPlusAutomatically: UInt64 = 1 << 14
  static let asyncDirectIO: UInt64 = 1 << 15
  static let parallelDirectories: UInt64 = 1 << 18
  static let maximumPages: UInt64 = 1 << 22
  static let cachedSymbolicLinks: UInt64 = 1 << 23
  /// No file has privileges after it was written, cut or given away (FUSE_HANDLE_KILLPRIV_V2): they are never kept.
  static let killsPrivileges: UInt64 = 1 << 28
}
