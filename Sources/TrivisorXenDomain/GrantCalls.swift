// HYPERVISOR_grant_table_op, both versions (Xen's public header grant_table.h): a domain allows another to map or copy single
// pages. There is one domain here, so what it grants it can map itself; back ends of ours will look at the same entries.

import TrivisorBoot
import Glibc
import TrivisorVMM

struct GrantCalls: HypercallSubject {
  let call: Hypercall

  /// GNTTABOP_….
  private enum Command {
    static let map: UInt64 = 0
    static let unmap: UInt64 = 1
    static let setUp: UInt64 = 2
    static let transfer: UInt64 = 4
    static let copy: UInt64 = 5
    static let size: UInt64 = 6
    static let unmapAndReplace: UInt64 = 7
    static let setVersion: UInt64 = 8
    static let statusFrames: UInt64 = 9
    static let version: UInt64 = 10
    static let swap: UInt64 = 11
    static let flushCache: UInt64 = 12
  }

  /// GNTCOPY_….
  private enum CopyFlag {
    static let fromGrant: UInt16 = 1
    static let toGrant: UInt16 = 2
  }

  func grantTable() throws(XenError) {
    let (command, address, count) = (arguments[0] & 0xffff_ffff, arguments[1], arguments[2] & 0xffff_ffff)
    guard count <= Hypercall.batchLimit else { throw .invalid }
    let isWide = layout == .bits64
    switch command {
    case Command.map:
      try each(address, 32, count, status: 18) { entry throws(XenError) in try GrantMappings(call: call).map(entry) }
    case Command.unmap:
      try each(address, 24, count, status: 20) { entry throws(XenError) in
        try GrantMappings(call: call).unmap(entry, replaces: false)
      }
    case Command.unmapAndReplace:
      try each(address, 24, count, status: 20) { entry throws(XenError) in
        try GrantMappings(call: call).unmap(entry, replaces: true)
      }
    case Command.setUp:
      guard count == 1 else { throw .invalid }
      try put(try setUpFrames(address).rawValue, address &+ 8)
    case Command.transfer:
      try each(address, isWide ? 24 : 16, count, status: isWide ? 16 : 12) { entry throws(XenError) in
        try transfer(entry)
      }
    case Command.copy:
      try each(address, isWide ? 40 : 24, count, status: isWide ? 36 : 20) { entry throws(XenError) in
        try copy(entry)
      }
    case Command.size:
      guard count == 1 else { throw .invalid }
      let status = owner(try short(address))
      if status == .okay {
        try put(UInt32(domain.grants.table.frameCount), address &+ 4)
        try put(UInt32(domain.grants.frameLimit), address &+ 8)
      }
      try put(status.rawValue, address &+ 12)
    case Command.setVersion: try setVersion(address)
    case Command.statusFrames:
      guard count == 1 else { throw .invalid }
      try put(try statusFrames(address).rawValue, address &+ 6)
    case Command.version:
      switch owner(try short(address)) {
      case .okay: try put(UInt32(domain.grants.table.version), address &+ 4)
      case .permissionDenied: throw .notPermitted
      default: throw .noSuchProcess
      }
    case Command.swap:
      try each(address, 12, count, status: 8) { entry throws(XenError) in
        domain.grants.swap(try half(entry), try half(entry &+ 4))
      }
    case Command.flushCache:
      for position in 0..<count { try flushCache(address &+ 16 &* position) }
    default: throw .notImplemented
    }
  }

  private func each(
    _ address: UInt64, _ size: UInt64, _ count: UInt64, status: UInt64,
    _ body: (UInt64) throws(XenError) -> GrantStatus
  ) throws(XenError) {
    for position in 0..<count {
      let entry = address &+ size &* position
      try put(try body(entry).rawValue, entry &+ status)
    }
  }

  /// Whose table may be looked at: one's own.
  private func owner(_ number: UInt16) -> GrantStatus {
    domain.isSelf(number) ? .okay : number == 0 ? .permissionDenied : .badDomain
  }

  /// GNTTABOP_setup_table: domain, how many frames, status, where their numbers go.
  private func setUpFrames(_ entry: UInt64) throws(XenError) -> GrantStatus {
    let (number, count) = (try short(entry), UInt64(try half(entry &+ 4)))
    let list = try long(entry &+ (layout == .bits64 ? 16 : 12))
    let status = owner(number)
    guard status == .okay else { return status }
    guard domain.grants.grow(to: count) else { return .generalError }
    for position in 0..<count {
      do throws(XenError) {
        try putLong(domain.grants.frame(position), list &+ layout.wordSize &* position)
      } catch { return .badVirtualAddress }
    }
    return .okay
  }

  /// GNTTABOP_set_version: what is wanted, and then what is.
  private func setVersion(_ address: UInt64) throws(XenError) {
    let wanted = try half(address)
    do throws(XenError) {
      guard wanted == 1 || wanted == 2 else { throw .invalid }
      try domain.grants.setVersion(Int(wanted))
    } catch {
      try put(UInt32(domain.grants.table.version), address)
      throw error
    }
    try put(UInt32(domain.grants.table.version), address)
  }

  /// GNTTABOP_get_status_frames: how many, domain, status, where their numbers go, of 64 bits each.
  private func statusFrames(_ entry: UInt64) throws(XenError) -> GrantStatus {
    let (count, number, list) = (UInt64(try half(entry)), try short(entry &+ 4), try quad(entry &+ 8))
    let status = owner(number)
    guard status == .okay else { return status }
    guard count <= domain.grants.table.statusCount else { return .generalError }
    for position in 0..<count {
      do throws(XenError) {
        try put(domain.grants.statusFrame(position), list &+ 8 &* position)
      } catch { return .badVirtualAddress }
    }
    return .okay
  }

  /// GNTTABOP_cache_flush: a bus address, offset, length, what to do; caches here are coherent.
  private func flushCache(_ entry: UInt64) throws(XenError) {
    let bus = try quad(entry)
    let (offset, length, operation) = (try short(entry &+ 8), try short(entry &+ 10), try half(entry &+ 12))
    guard offset < 4096, Int(offset) + Int(length) <= 4096, operation & ~3 == 0 else { throw .invalid }
    guard length > 0, operation != 0 else { return }
    guard frames.index(bus >> 12) != nil else { throw .invalid }
    guard frames.isOwned(bus >> 12) else { throw .notPermitted }
  }

  /// GNTTABOP_transfer: a frame goes to a domain that waits for it, and is lost where none does.
  private func transfer(_ entry: UInt64) throws(XenError) -> GrantStatus {
    let word = layout.wordSize
    let (frame, receiver) = (try long(entry), try short(entry &+ word))
    let reference = try half(entry &+ word &+ 4)
    guard frames.isOwned(frame), !frames.isHypervisors(frame) else { return .badPage }
    guard !tables.isReferenced(frame) else { return .generalError }
    // Mappings for reading are not counted, so all go.
    tables.frames.cede(frame)
    tables.stale.addEverything()
    guard receiver == 0 || receiver == Domain.ownNumber else { return .badDomain }
    guard receiver == Domain.ownNumber, let place = domain.grants.entry(reference) else { return .generalError }
    let header = place.load(as: UInt32.self)
    guard UInt16(truncatingIfNeeded: header) == GrantFlags.acceptsTransfer,
      UInt16(truncatingIfNeeded: header >> 16) == Domain.ownNumber
    else { return .generalError }
    tables.frames.reclaim(frame)
    let flags = GrantFlags.acceptsTransfer | GrantFlags.transferCommitted | GrantFlags.transferCompleted
    if domain.grants.table.version == 1 {
      place.storeBytes(of: UInt32(truncatingIfNeeded: frame), toByteOffset: 4, as: UInt32.self)
    } else {
      place.storeBytes(of: frame, toByteOffset: 8, as: UInt64.self)
    }
    place.storeBytes(of: flags, as: UInt16.self)
    return .okay
  }

  private struct Part {
    let name: UInt64
    let domain: UInt16
    let offset: Int
    let isGrant: Bool
  }

  /// GNTTABOP_copy: source and destination (reference or frame, domain, offset), length, flags.
  private func copy(_ entry: UInt64) throws(XenError) -> GrantStatus {
    let half: UInt64 = layout == .bits64 ? 16 : 8
    let word = layout.wordSize
    let (length, flags) = (Int(try short(entry &+ 2 &* half)), try short(entry &+ 2 &* half &+ 2))
    let source = Part(
      name: try long(entry), domain: try short(entry &+ word), offset: Int(try short(entry &+ word &+ 2)),
      isGrant: flags & CopyFlag.fromGrant != 0)
    let target = Part(
      name: try long(entry &+ half), domain: try short(entry &+ half &+ word),
      offset: Int(try short(entry &+ half &+ word &+ 2)), isGrant: flags & CopyFlag.toGrant != 0)
    guard length > 0 else { return .okay }
    do throws(GrantStatus) {
      for part in [source, target] {
        guard domain.isSelf(part.domain) || part.domain == 0 else { throw .badDomain }
        guard part.isGrant || part.domain == Domain.self16 else { throw .permissionDenied }
      }
      let (from, to) = (try place(source, readOnly: true), try place(target, readOnly: false))
      guard tables.isWritable(to.frame) else { throw .generalError }
      guard source.offset + length <= 4096, target.offset + length <= 4096 else { throw .badCopy }
      guard source.offset >= from.offset, source.offset + length <= from.offset + from.size,
        target.offset >= to.offset, target.offset + length <= to.offset + to.size
      else { throw .generalError }
      if let start = frames.bytes(from.frame), let end = frames.bytes(to.frame) {
        memmove(end + target.offset, start + source.offset, length)
        frames.didStore(at: end + target.offset, count: length)
      }
      return .okay
    } catch { return error }
  }

  private func place(_ part: Part, readOnly: Bool) throws(GrantStatus) -> GrantTable.Place {
    // Domain 0 grants nothing: its table is one frame of entries that permit nothing.
    if part.domain == 0 { throw part.name < 512 ? .generalError : .badReference }
    if part.isGrant { return try domain.grants.placeForCopy(UInt32(truncatingIfNeeded: part.name), readOnly: readOnly) }
    guard frames.isOwned(part.name), !frames.isHypervisors(part.name) else { throw .badPage }
    return .init(frame: part.name)
  }
}
