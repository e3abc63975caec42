// Grant tables, version 1 (Xen's public header grant_table.h): a domain allows another to map or copy single pages. There
// is one domain here, so what it grants it can map itself; back ends will look at the same entries.

import Boot
import VMM

/// What is mapped by grants.
struct GrantTable {
  struct Mapping {
    let reference: UInt32
    let frame: UInt64
    let address: UInt64
    let isReadOnly: Bool
  }

  var mappings: [UInt32: Mapping] = [:]
  var nextHandle: UInt32 = 1
}

extension Domain {
  private static let own: UInt16 = 1
  private static let self16: UInt16 = 0x7ff0

  /// What an operation's status says (GNTST_…).
  private enum Status: Int16 {
    case okay = 0
    case generalError = -1
    case badDomain = -2
    case badReference = -3
    case badHandle = -4
    case badAddress = -5
    case permissionDenied = -8
  }

  /// HYPERVISOR_grant_table_op.
  func grantTable(_ context: HypercallContext) throws(XenError) {
    let (command, address, count) = (context.arguments[0], context.arguments[1], context.arguments[2])
    guard count <= Self.batchLimit else { throw .invalid }
    let isWide = layout == .bits64
    for position in 0..<count {
      switch command {
      case 0:
        let entry = address &+ 32 &* position
        try put(try mapGrant(entry, context).rawValue, entry &+ 18, context)
      case 1:
        let entry = address &+ 24 &* position
        try put(try unmapGrant(entry, context).rawValue, entry &+ 20, context)
      case 2:
        // Domain, how many frames, status, where their numbers go: the one frame there is.
        let entry = address &+ (isWide ? 24 : 16) &* position
        let wanted = try half(entry &+ 4, context)
        if wanted == 1 {
          let list = try long(entry &+ (isWide ? 16 : 12), context)
          try putLong(XenMachine.grantTableFrame(memory), list, context)
        }
        try put((wanted <= 1 ? Status.okay : .generalError).rawValue, entry &+ 8, context)
      case 6:
        let entry = address &+ 16 &* position
        try put(UInt32(1), entry &+ 4, context)
        try put(UInt32(1), entry &+ 8, context)
        try put(Status.okay.rawValue, entry &+ 12, context)
      case 8: guard try half(address, context) == 1 else { throw .invalid }
      case 10: try put(UInt32(1), address &+ 4, context)
      default: throw .notImplemented
      }
    }
  }

  /// An entry of the table: flags, domain, frame. A copy: the guest can change it.
  private func grant(_ reference: UInt32) -> (flags: UInt16, domain: UInt16, frame: UInt64)? {
    guard reference < 512, let table = frames.bytes(XenMachine.grantTableFrame(memory)) else { return nil }
    let word = (table + 8 * Int(reference)).load(as: UInt64.self)
    return (UInt16(truncatingIfNeeded: word), UInt16(truncatingIfNeeded: word >> 16), word >> 32)
  }

  /// GNTTABOP_map_grant_ref: host_addr, flags, ref, dom; status, handle, dev_bus_addr.
  private func mapGrant(_ entry: UInt64, _ context: HypercallContext) throws(XenError) -> Status {
    let address = try quad(entry, context)
    let flags = try half(entry &+ 8, context)
    let reference = try half(entry &+ 12, context)
    let domain = try short(entry &+ 16, context)
    guard domain == Self.own || domain == Self.self16 else { return .badDomain }
    // For the host's own address (GNTMAP_host_map), readable (4) or writable, by address and not by entry.
    guard flags & ~7 == 2 || flags & ~7 == 0, flags & 2 != 0 else { return .generalError }
    let isReadOnly = flags & 4 != 0
    guard let grant = grant(reference), grant.flags & 3 == 1, grant.domain == Self.own else { return .badReference }
    guard isReadOnly || grant.flags & 4 == 0 else { return .permissionDenied }
    guard let leaf = tables.leaf(address, root: context.root) else { return .badAddress }
    let bits: UInt64 = isReadOnly ? 0x25 : 0x67
    do throws(XenError) {
      try tables.update(table: leaf.table, position: leaf.position, to: grant.frame << 12 | bits)
    } catch { return .generalError }
    // GTF_reading and GTF_writing, for the guest to see that it is in use.
    if let table = frames.bytes(XenMachine.grantTableFrame(memory)) {
      let place = table + 8 * Int(reference)
      place.storeBytes(of: place.load(as: UInt16.self) | (isReadOnly ? 8 : 0x18), as: UInt16.self)
    }
    let handle = grants.nextHandle
    grants.nextHandle &+= 1
    grants.mappings[handle] = .init(
      reference: reference, frame: grant.frame, address: address, isReadOnly: isReadOnly)
    try put(handle, entry &+ 20, context)
    try put(grant.frame << 12, entry &+ 24, context)
    return .okay
  }

  /// GNTTABOP_unmap_grant_ref: host_addr, dev_bus_addr, handle; status.
  private func unmapGrant(_ entry: UInt64, _ context: HypercallContext) throws(XenError) -> Status {
    let address = try quad(entry, context)
    let handle = try half(entry &+ 16, context)
    guard let mapping = grants.mappings[handle] else { return .badHandle }
    guard mapping.address == address else { return .badAddress }
    if let leaf = tables.leaf(address, root: context.root), PageTables.frame(leaf.entry) == mapping.frame {
      try tables.update(table: leaf.table, position: leaf.position, to: 0)
    }
    grants.mappings[handle] = nil
    if !grants.mappings.values.contains(where: { $0.reference == mapping.reference }),
      let table = frames.bytes(XenMachine.grantTableFrame(memory))
    {
      let place = table + 8 * Int(mapping.reference)
      place.storeBytes(of: place.load(as: UInt16.self) & ~0x18, as: UInt16.self)
    }
    return .okay
  }
}
