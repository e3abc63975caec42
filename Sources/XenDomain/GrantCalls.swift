// Grant tables, version 1 (Xen's public header grant_table.h): a domain allows another to map or copy single pages. There
// is one domain here, so what it grants it can map itself; back ends will look at the same entries.

import Boot
import Glibc
import VMM

/// What is mapped by domain.grants.
struct GrantTable {
  struct Mapping: Codable, Sendable, Equatable {
    let reference: UInt32
    let frame: UInt64
    let address: UInt64
    let isReadOnly: Bool
    /// Whether the address is an entry's in the machine, and not one of the domain's.
    let namesEntry: Bool
  }

  var mappings: [UInt32: Mapping] = [:]
  var nextHandle: UInt32 = 1
  /// The most mappings at a time: a domain must not fill the monitor's memory.
  static let limit = 1 << 15

  struct Saved: Codable, Sendable, Equatable {
    var mappings: [UInt32: Mapping]
    var nextHandle: UInt32
  }

  func save() -> Saved { Saved(mappings: mappings, nextHandle: nextHandle) }

  /// No mapping.
  init() {}

  /// What a mapping says is looked at when it ends.
  init(_ saved: Saved) throws(RestoreFailure) {
    try restoring(
      Domain.savedSubject, requires: saved.mappings.count <= Self.limit,
      "it has \(saved.mappings.count) grants mapped")
    (mappings, nextHandle) = (saved.mappings, saved.nextHandle)
  }
}

struct GrantCalls: HypercallSubject {
  let call: Hypercall

  /// Entries in the one frame.
  private static let grantCount: UInt32 = 512

  /// What an operation's status says (GNTST_…).
  private enum Status: Int16, Error {
    case okay = 0
    case generalError = -1
    case badDomain = -2
    case badReference = -3
    case badHandle = -4
    case noSpace = -7
    case permissionDenied = -8
    case badPage = -9
    case badCopy = -10
  }

  /// Bits of a grant's flags (GTF_…), and of a mapping's (GNTMAP_…).
  private enum Flag {
    static let permitsAccess: UInt16 = 1
    static let type: UInt16 = 3
    static let readOnly: UInt16 = 4
    static let reading: UInt16 = 8
    static let writing: UInt16 = 16
    static let subPage: UInt16 = 1 << 8
    static let mapsDevice: UInt32 = 1
    static let mapsHost: UInt32 = 2
    static let mapsReadOnly: UInt32 = 4
    static let mapsForUser: UInt32 = 8
    static let namesEntry: UInt32 = 16
    static let copiesFromGrant: UInt16 = 1
    static let copiesToGrant: UInt16 = 2
  }

  /// HYPERVISOR_grant_table_op.
  func grantTable() throws(XenError) {
    let (command, address, count) = (arguments[0], arguments[1], arguments[2])
    guard count <= Hypercall.batchLimit else { throw .invalid }
    let isWide = layout == .bits64
    switch command {
    case 0:
      for position in 0..<count {
        let entry = address &+ 32 &* position
        try put(try mapGrant(entry).rawValue, entry &+ 18)
      }
    case 1:
      for position in 0..<count {
        let entry = address &+ 24 &* position
        try put(try unmapGrant(entry).rawValue, entry &+ 20)
      }
    case 2:
      guard count == 1 else { throw .invalid }
      try setUpGrants(address)
    case 5:
      for position in 0..<count {
        let entry = address &+ (isWide ? 40 : 24) &* position
        try put(try copyGrant(entry).rawValue, entry &+ (isWide ? 36 : 20))
      }
    case 6:
      guard count == 1 else { throw .invalid }
      guard domain.isSelf(try short(address)) else {
        return try put(Status.badDomain.rawValue, address &+ 12)
      }
      try put(UInt32(1), address &+ 4)
      try put(UInt32(1), address &+ 8)
      try put(Status.okay.rawValue, address &+ 12)
    // Version 2 is as unknown as before there was one.
    case 8:
      let wanted = try half(address)
      try put(UInt32(1), address)
      guard wanted == 1 else { throw wanted == 2 ? .notImplemented : .invalid }
    case 10:
      guard domain.isSelf(try short(address)) else { throw .noSuchProcess }
      try put(UInt32(1), address &+ 4)
    default: throw .notImplemented
    }
  }

  /// GNTTABOP_setup_table: domain, how many frames, status, where their numbers go: the one frame there is.
  private func setUpGrants(_ entry: UInt64) throws(XenError) {
    let wanted = try half(entry &+ 4)
    let status: Status =
      !domain.isSelf(try short(entry)) ? .badDomain : wanted <= 1 ? .okay : .generalError
    if status == .okay, wanted == 1 {
      let list = try long(entry &+ (layout == .bits64 ? 16 : 12))
      try putLong(XenMachine.grantTableFrame(memory), list)
    }
    try put(status.rawValue, entry &+ 8)
  }

  private func grantEntry(_ reference: UInt32) -> UnsafeMutableRawPointer? {
    guard reference < Self.grantCount else { return nil }
    return frames.bytes(XenMachine.grantTableFrame(memory)).map { $0 + 8 * Int(reference) }
  }

  /// The frame that an entry domain.grants. A copy is judged: the guest can change the entry meanwhile.
  private func grantedFrame(_ reference: UInt32, readOnly: Bool, maps: Bool) -> Result<UInt64, Status> {
    guard let entry = grantEntry(reference) else { return .failure(.badReference) }
    let word = entry.load(as: UInt64.self)
    let flags = UInt16(truncatingIfNeeded: word)
    let mask = Flag.type | (maps ? Flag.subPage : 0)
    guard flags & mask == Flag.permitsAccess, UInt16(truncatingIfNeeded: word >> 16) == Domain.ownNumber,
      readOnly || flags & Flag.readOnly == 0
    else { return .failure(.generalError) }
    return frames.isOwned(word >> 32) ? .success(word >> 32) : .failure(.badPage)
  }

  /// GNTTABOP_map_grant_ref: host_addr, flags, ref, dom; status, handle, dev_bus_addr.
  private func mapGrant(_ entry: UInt64) throws(XenError) -> Status {
    let address = try quad(entry)
    let flags = try half(entry &+ 8)
    let reference = try half(entry &+ 12)
    guard flags & (Flag.mapsDevice | Flag.mapsHost) != 0 else { return .badReference }
    guard try short(entry &+ 16) == Domain.ownNumber else { return .badDomain }
    guard domain.grants.mappings.count < GrantTable.limit else { return .noSpace }
    let isReadOnly = flags & Flag.mapsReadOnly != 0
    let frame: UInt64
    switch grantedFrame(reference, readOnly: isReadOnly, maps: true) {
    case .success(let granted): frame = granted
    case .failure(let status): return status
    }
    let namesEntry = flags & Flag.namesEntry != 0
    if flags & Flag.mapsHost != 0 {
      guard let place = grantPlace(address, namesEntry: namesEntry) else { return .generalError }
      let bits: UInt64 = 0x21 | (isReadOnly ? 0 : 0x42) | (flags & Flag.mapsForUser != 0 ? 4 : 0)
      do throws(XenError) {
        try tables.update(table: place.table, position: place.position, to: frame << 12 | bits)
      } catch { return .generalError }
    }
    // For the guest to see that it is in use.
    if let place = grantEntry(reference) {
      let use = Flag.reading | (isReadOnly ? 0 : Flag.writing)
      place.storeBytes(of: place.load(as: UInt16.self) | use, as: UInt16.self)
    }
    let handle = domain.grants.nextHandle
    domain.grants.nextHandle &+= 1
    domain.grants.mappings[handle] = .init(
      reference: reference, frame: frame, address: flags & Flag.mapsHost != 0 ? address : 0, isReadOnly: isReadOnly,
      namesEntry: namesEntry)
    try put(handle, entry &+ 20)
    try put(frame << 12, entry &+ 24)
    return .okay
  }

  /// The last-level entry that a mapping's address names.
  private func grantPlace(
    _ address: UInt64, namesEntry: Bool
  ) -> (table: UInt64, position: UInt64)? {
    if namesEntry {
      guard address & 7 == 0, tables.use(address >> 12) == .table1 else { return nil }
      return (address >> 12, address >> 3 & 511)
    }
    return tables.leaf(address, root: root).map { ($0.table, $0.position) }
  }

  /// GNTTABOP_unmap_grant_ref: host_addr, dev_bus_addr, handle; status.
  private func unmapGrant(_ entry: UInt64) throws(XenError) -> Status {
    let address = try quad(entry)
    let handle = try half(entry &+ 16)
    guard let mapping = domain.grants.mappings[handle] else { return .badHandle }
    if address != 0 {
      guard mapping.address == address,
        let place = grantPlace(address, namesEntry: mapping.namesEntry),
        let mapped = frames.entry(place.table, place.position)?.pointee, PageTables.frame(mapped) == mapping.frame,
        mapped & PageTables.present != 0, (mapped & PageTables.writable != 0) == !mapping.isReadOnly
      else { return .generalError }
      try tables.update(table: place.table, position: place.position, to: 0)
    }
    domain.grants.mappings[handle] = nil
    let others = domain.grants.mappings.values.filter { $0.reference == mapping.reference }
    if let place = grantEntry(mapping.reference) {
      var ended = others.isEmpty ? Flag.reading : 0
      if others.allSatisfy({ $0.isReadOnly }) { ended |= Flag.writing }
      place.storeBytes(of: place.load(as: UInt16.self) & ~ended, as: UInt16.self)
    }
    return .okay
  }

  /// GNTTABOP_copy: source and destination (reference or frame, domain, offset), length, flags; status.
  private func copyGrant(_ entry: UInt64) throws(XenError) -> Status {
    let isWide = layout == .bits64
    let half: UInt64 = isWide ? 16 : 8
    let flags = try short(entry &+ 2 &* half &+ 2)
    let length = Int(try short(entry &+ 2 &* half))
    func part(_ place: UInt64) throws(XenError) -> (name: UInt64, domain: UInt16, offset: Int) {
      let word = layout.wordSize
      return (
        try long(place), try short(place &+ word), Int(try short(place &+ word &+ 2))
      )
    }
    let (source, target) = (try part(entry), try part(entry &+ half))
    var found: [UInt64] = []
    for (part, isGrant, readOnly) in [
      (source, flags & Flag.copiesFromGrant != 0, true), (target, flags & Flag.copiesToGrant != 0, false),
    ] {
      guard domain.isSelf(part.domain) else { return .badDomain }
      guard isGrant || part.domain == Domain.self16 else { return .permissionDenied }
      if isGrant {
        switch grantedFrame(UInt32(truncatingIfNeeded: part.name), readOnly: readOnly, maps: false) {
        case .success(let frame): found.append(frame)
        case .failure(let status): return status
        }
      } else {
        guard frames.isOwned(part.name) else { return .badPage }
        found.append(part.name)
      }
      if !readOnly, !tables.isWritable(found[1]) { return .generalError }
    }
    guard source.offset + length <= 4096, target.offset + length <= 4096 else { return .badCopy }
    if let from = frames.bytes(found[0]), let to = frames.bytes(found[1]) {
      memmove(to + target.offset, from + source.offset, length)
    }
    return .okay
  }
}
