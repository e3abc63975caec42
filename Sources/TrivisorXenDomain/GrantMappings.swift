import TrivisorVMM

/// Grants that are mapped: in the domain's own page tables, where an entry is the hypervisor's to make and to take away.
struct GrantMappings: HypercallSubject {
  let call: Hypercall

  /// Present, accessed; and for writing.
  private static let reading = PageTables.present | PageTables.accessed
  private static let writing = PageTables.writable | PageTables.dirty

  /// GNTTABOP_map_grant_ref: host_addr, flags, ref, dom; status, handle, dev_bus_addr.
  func map(_ entry: UInt64) throws(XenError) -> GrantStatus {
    let address = try quad(entry)
    let flags = try half(entry &+ 8)
    let reference = try half(entry &+ 12)
    let owner = try short(entry &+ 16)
    let (isHosts, isDevices) = (flags & GrantMapFlags.host != 0, flags & GrantMapFlags.device != 0)
    let isReadOnly = flags & GrantMapFlags.readOnly != 0
    guard isHosts || isDevices else { return .badReference }
    guard owner == Domain.ownNumber else {
      // Domain 0 grants nothing: its table is one frame of entries that permit nothing.
      return owner != 0 ? .badDomain : reference < 512 ? .generalError : .badReference
    }
    let times = (isHosts ? 1 : 0) + (isDevices ? 1 : 0)
    do throws(GrantStatus) {
      let frame = try domain.grants.use(reference, readOnly: isReadOnly, times: times)
      var held = 0
      do throws(GrantStatus) {
        // Both keep the frame writable, whatever becomes of the page tables.
        if !isReadOnly {
          for _ in 0..<times {
            do throws(XenError) { try tables.getWritable(frame) } catch { throw .generalError }
            held += 1
          }
        }
        let namesEntry = flags & GrantMapFlags.namesEntry != 0
        if isHosts { try setEntry(address, namesEntry, to: frame << 12 | bits(flags)) }
        let mapping = GrantTable.Mapping(
          reference: reference, frame: frame, isReadOnly: isReadOnly,
          namesEntry: namesEntry, isHosts: isHosts, isDevices: isDevices)
        guard let handle = domain.grants.table.add(mapping) else {
          if isHosts { try? setEntry(address, namesEntry, to: 0) }
          throw .noSpace
        }
        try? put(handle, entry &+ 20)
        try? put(frame << 12, entry &+ 24)
      } catch {
        for _ in 0..<held { tables.put(frame) }
        domain.grants.endUse(reference, readOnly: isReadOnly, times: times)
        throw error
      }
      return .okay
    } catch { return error }
  }

  private func bits(_ flags: UInt32) -> UInt64 {
    Self.reading | (flags & GrantMapFlags.readOnly == 0 ? Self.writing : 0)
      | (flags & GrantMapFlags.forUser != 0 ? PageTables.user : 0)
      | UInt64(flags >> GrantMapFlags.ownBits & 7) << PageTables.ownBits
  }

  /// The last-level entry that a mapping's address names: its own in the machine, or that of an address of the domain's.
  private func place(_ address: UInt64, _ namesEntry: Bool) -> (table: UInt64, position: UInt64)? {
    if namesEntry {
      guard address & 7 == 0, tables.use(address >> 12) == .table1 else { return nil }
      return (address >> 12, address >> 3 & 511)
    }
    guard layout == .bits64 || address >> 32 == 0, let leaf = tables.leaf(address, root: root),
      tables.use(leaf.table) == .table1
    else { return nil }
    return (leaf.table, leaf.position)
  }

  private func setEntry(_ address: UInt64, _ namesEntry: Bool, to value: UInt64) throws(GrantStatus) {
    guard let place = place(address, namesEntry) else { throw .generalError }
    do throws(XenError) {
      try tables.update(table: place.table, position: place.position, to: value)
    } catch { throw .generalError }
  }

  /// GNTTABOP_unmap_grant_ref: host_addr, dev_bus_addr, handle; or GNTTABOP_unmap_and_replace, with another address in the place
  /// of dev_bus_addr, whose entry moves to where the grant was.
  func unmap(_ entry: UInt64, replaces: Bool) throws(XenError) -> GrantStatus {
    let (address, second) = (try quad(entry), try quad(entry &+ 8))
    let handle = try half(entry &+ 16)
    let (bus, other) = replaces ? (0, second) : (second, 0)
    guard var mapping = domain.grants.table[handle] else { return .badHandle }
    if bus != 0, mapping.isDevices, bus != mapping.frame << 12 { return .badDeviceAddress }
    if address != 0, mapping.isHosts {
      do throws(GrantStatus) { try remove(address, other, mapping) } catch { return error }
      mapping.isHosts = false
      end(mapping)
    }
    if bus != 0, mapping.isDevices {
      mapping.isDevices = false
      end(mapping)
    }
    domain.grants.table[handle] = mapping.isHosts || mapping.isDevices ? mapping : nil
    return .okay
  }

  private func end(_ mapping: GrantTable.Mapping) {
    if !mapping.isReadOnly { tables.put(mapping.frame) }
    domain.grants.endUse(mapping.reference, readOnly: mapping.isReadOnly, times: 1)
  }

  /// The entry must still be what was made of it.
  private func remove(
    _ address: UInt64, _ other: UInt64, _ mapping: GrantTable.Mapping
  ) throws(GrantStatus) {
    var replacement: UInt64 = 0
    if other != 0 {
      guard !mapping.namesEntry, let stolen = place(other, false),
        let value = frames.entry(stolen.table, stolen.position)?.pointee
      else { throw .generalError }
      do throws(XenError) {
        try tables.update(table: stolen.table, position: stolen.position, to: 0)
      } catch { throw .generalError }
      replacement = value
    }
    guard let place = place(address, mapping.namesEntry),
      let mapped = frames.entry(place.table, place.position)?.pointee,
      PageTables.frame(mapped) == mapping.frame, mapped & PageTables.present != 0,
      (mapped & PageTables.writable != 0) == !mapping.isReadOnly
    else { throw .generalError }
    do throws(XenError) {
      try tables.update(table: place.table, position: place.position, to: replacement)
    } catch { throw .generalError }
  }
}
