import TrivisorBoot
import TrivisorVMM

/// What of the domain's grants is in use, and by whom (Xen's common/grant_table.c). The entries themselves are in frames that the
/// domain shares, and that it may change at any time.
struct GrantTable {
  /// One use of a grant, which a handle names: for the processor, for devices (there are none, but a domain may ask), or both.
  struct Mapping: Codable, Sendable, Equatable {
    let reference: UInt32
    let frame: UInt64
    let isReadOnly: Bool
    /// Whether an entry was named by its own address in the machine.
    let namesEntry: Bool
    var isHosts: Bool
    var isDevices: Bool
  }

  /// How often a grant is in use, and what it named when it came into use.
  struct Use {
    let frame: UInt64
    /// Which domain's: this one itself, or ours.
    var user = Domain.ownNumber
    var readers = 0
    var writers = 0

    var isUsed: Bool { readers + writers > 0 }
  }

  /// What is copied from or to: a frame, or a part of one (version 2).
  struct Place {
    let frame: UInt64
    var offset = 0
    var size = 4096
  }

  /// The most uses of one grant, and of handles.
  static let useLimit = 128
  static let handleLimit = 8192
  /// GNTTAB_NR_RESERVED_ENTRIES: they outlive a change of version.
  static let reservedCount: UInt32 = 8

  /// Of the entries: 1 or 2.
  var version = 1
  /// How many frames have entries; and, in version 2, how many their status.
  var frameCount: UInt64 = 1
  var statusCount: UInt64 = 0
  var uses: [UInt32: Use] = [:]
  private var mappings: [UInt32: Mapping] = [:]
  private var nextHandle: UInt32 = 0

  var entrySize: Int { version == 1 ? 8 : 16 }
  /// How many grants there are.
  var entryCount: UInt32 { UInt32(frameCount) * UInt32(4096 / entrySize) }
  /// How many frames have the status of so many frames of entries of version 2.
  static func statusCount(_ frames: UInt64) -> UInt64 { (frames * 256 * 2 + 4095) / 4096 }

  struct Saved: Codable, Sendable, Equatable {
    var version: Int
    var frameCount: UInt64
    var mappings: [UInt32: Mapping]
    var nextHandle: UInt32

    /// Counts what it refers to: what is mapped for writing stays so, once for each way.
    func getReferences(_ tables: inout PageTables) throws(XenError) {
      for mapping in mappings.values where !mapping.isReadOnly {
        for isUsed in [mapping.isHosts, mapping.isDevices] where isUsed { try tables.getWritable(mapping.frame) }
      }
    }
  }

  func save() -> Saved {
    Saved(version: version, frameCount: frameCount, mappings: mappings, nextHandle: nextHandle)
  }

  /// None in use.
  init() {}

  init(_ saved: Saved, _ memory: GuestMemory) throws(RestoreFailure) {
    let frames = MachineFrames(memory)
    try restoring(
      Domain.savedSubject,
      requires: saved.version == 1 || saved.version == 2, "its grants are of version \(saved.version)")
    try restoring(
      Domain.savedSubject,
      requires: (1...UInt64(XenMachine.grantFrames(memory).count)).contains(saved.frameCount)
        && saved.mappings.count <= Self.handleLimit && saved.nextHandle < UInt32(2 * Self.handleLimit)
        && saved.mappings.keys.allSatisfy { $0 < UInt32(2 * Self.handleLimit) },
      "it has \(saved.mappings.count) grants mapped, and \(saved.frameCount) frames of them")
    (version, frameCount, nextHandle) = (saved.version, saved.frameCount, saved.nextHandle)
    statusCount = version == 2 ? Self.statusCount(frameCount) : 0
    mappings = saved.mappings
    for mapping in mappings.values {
      var use = uses[mapping.reference] ?? Use(frame: mapping.frame)
      let times = (mapping.isHosts ? 1 : 0) + (mapping.isDevices ? 1 : 0)
      if mapping.isReadOnly { use.readers += times } else { use.writers += times }
      try restoring(
        Domain.savedSubject,
        requires: use.frame == mapping.frame && times > 0 && use.readers + use.writers <= Self.useLimit
          && mapping.reference < entryCount && frames.index(mapping.frame) != nil
          && !frames.isHypervisors(mapping.frame),
        "a grant is mapped that it can't have")
      uses[mapping.reference] = use
    }
  }

  subscript(handle: UInt32) -> Mapping? {
    get { mappings[handle] }
    set { mappings[handle] = newValue }
  }

  /// `nil` when there are too many.
  mutating func add(_ mapping: Mapping) -> UInt32? {
    guard mappings.count < Self.handleLimit else { return nil }
    while mappings[nextHandle] != nil { nextHandle = (nextHandle + 1) % UInt32(2 * Self.handleLimit) }
    defer { nextHandle = (nextHandle + 1) % UInt32(2 * Self.handleLimit) }
    mappings[nextHandle] = mapping
    return nextHandle
  }
}

/// What an operation's status says (GNTST_…, Xen's public header grant_table.h).
enum GrantStatus: Int16, Error {
  case okay = 0
  case generalError = -1
  case badDomain = -2
  case badReference = -3
  case badHandle = -4
  case badVirtualAddress = -5
  case badDeviceAddress = -6
  case permissionDenied = -8
  case badPage = -9
  case badCopy = -10
  case again = -12
  case noSpace = -13
}

/// A grant's flags (GTF_…).
enum GrantFlags {
  static let type: UInt16 = 3
  static let permitsAccess: UInt16 = 1
  static let acceptsTransfer: UInt16 = 2
  static let isTransitive: UInt16 = 3
  static let readOnly: UInt16 = 1 << 2
  static let reading: UInt16 = 1 << 3
  static let writing: UInt16 = 1 << 4
  static let subPage: UInt16 = 1 << 8
  static let transferCommitted: UInt16 = 1 << 2
  static let transferCompleted: UInt16 = 1 << 3
}

/// A mapping's flags (GNTMAP_…).
enum GrantMapFlags {
  static let device: UInt32 = 1 << 0
  static let host: UInt32 = 1 << 1
  static let readOnly: UInt32 = 1 << 2
  static let forUser: UInt32 = 1 << 3
  static let namesEntry: UInt32 = 1 << 4
  /// From this one on: what the entry is to have in the bits that the processor leaves to software.
  static let ownBits: UInt32 = 16
}
