import TrivisorBoot
import TrivisorVMM

/// A domain's grants: their entries, in the frames that it shares, and what of them is in use. Of each entry what is judged is read
/// once. Used with the domain's lock held.
final class DomainGrants {
  private let memory: DomainMemory
  private let entryFrames: Range<UInt64>
  private let statusFrames: Range<UInt64>
  var table: GrantTable

  init(_ memory: DomainMemory, _ table: GrantTable) {
    self.memory = memory
    self.table = table
    entryFrames = XenMachine.grantFrames(memory.guest)
    statusFrames = XenMachine.grantStatusFrames(memory.guest)
  }

  private var frames: MachineFrames { memory.frames }

  /// Which frames of the hypervisor's a domain may map.
  static func lentFrames(_ memory: GuestMemory, _ grants: GrantTable) -> [Range<UInt64>] {
    let (shared, entries) = (XenMachine.sharedInfoFrame(memory), XenMachine.grantFrames(memory).lowerBound)
    let statuses = XenMachine.grantStatusFrames(memory).lowerBound
    return [shared..<(shared + 1), entries..<(entries + grants.frameCount), statuses..<(statuses + grants.statusCount)]
  }

  private func updateLentFrames() { memory.tables.frames.lend(Self.lentFrames(memory.guest, table)) }

  /// Where an entry is; `nil` beyond the last.
  func entry(_ reference: UInt32) -> UnsafeMutableRawPointer? {
    guard reference < table.entryCount else { return nil }
    let offset = Int(reference) * table.entrySize
    return frames.bytes(entryFrames.lowerBound + UInt64(offset / 4096)).map { $0 + offset % 4096 }
  }

  /// Where it says that it is in use: in the entry, or in a frame of its own (version 2).
  private func status(_ reference: UInt32) -> UnsafeMutablePointer<UInt16>? {
    guard table.version == 2 else { return entry(reference)?.assumingMemoryBound(to: UInt16.self) }
    guard reference < table.entryCount else { return nil }
    let offset = Int(reference) * 2
    return frames.bytes(statusFrames.lowerBound + UInt64(offset / 4096)).map {
      ($0 + offset % 4096).assumingMemoryBound(to: UInt16.self)
    }
  }

  /// What an entry grants to a domain, this one itself or ours, if it does so in this way.
  private func granted(
    _ reference: UInt32, readOnly: Bool, maps: Bool, to user: UInt16 = Domain.ownNumber
  ) throws(GrantStatus) -> GrantTable.Place {
    guard let entry = self.entry(reference) else { throw .badReference }
    let header = entry.load(as: UInt32.self)
    let flags = UInt16(truncatingIfNeeded: header)
    let mask = GrantFlags.type | (maps ? GrantFlags.subPage : 0)
    // A transitive grant leads to another domain, whose grants we have none of.
    guard flags & mask == GrantFlags.permitsAccess, UInt16(truncatingIfNeeded: header >> 16) == user,
      readOnly || flags & GrantFlags.readOnly == 0
    else { throw .generalError }
    var place: GrantTable.Place
    if table.version == 1 {
      place = .init(frame: UInt64(entry.load(fromByteOffset: 4, as: UInt32.self)))
    } else {
      place = .init(frame: entry.load(fromByteOffset: 8, as: UInt64.self))
      if flags & GrantFlags.subPage != 0 {
        place.offset = Int(entry.load(fromByteOffset: 4, as: UInt16.self))
        place.size = Int(entry.load(fromByteOffset: 6, as: UInt16.self))
      }
    }
    guard frames.isOwned(place.frame), !frames.isHypervisors(place.frame) else { throw .badPage }
    return place
  }

  /// Takes a grant into use.
  /// - Returns: the frame that it names, which is the same as long as it is in use.
  func use(
    _ reference: UInt32, readOnly: Bool, times: Int, by user: UInt16 = Domain.ownNumber
  ) throws(GrantStatus) -> UInt64 {
    guard reference < table.entryCount else { throw .badReference }
    var use: GrantTable.Use
    if let known = table.uses[reference] {
      use = known
      guard use.user == user, use.readers + use.writers + times <= GrantTable.useLimit else { throw .generalError }
      // What was only read so far must permit more than that.
      if !readOnly, use.writers == 0 { _ = try granted(reference, readOnly: false, maps: true, to: user) }
    } else {
      use = .init(frame: try granted(reference, readOnly: readOnly, maps: true, to: user).frame, user: user)
    }
    if readOnly { use.readers += times } else { use.writers += times }
    table.uses[reference] = use
    mark(reference, use)
    return use.frame
  }

  /// One use less.
  func endUse(_ reference: UInt32, readOnly: Bool, times: Int) {
    guard var use = table.uses[reference] else { return }
    if readOnly { use.readers -= times } else { use.writers -= times }
    table.uses[reference] = use.isUsed ? use : nil
    mark(reference, use)
  }

  /// For the guest to see.
  private func mark(_ reference: UInt32, _ use: GrantTable.Use) {
    guard let status = self.status(reference) else { return }
    let bits = (use.isUsed ? GrantFlags.reading : 0) | (use.writers > 0 ? GrantFlags.writing : 0)
    status.pointee = status.pointee & ~(GrantFlags.reading | GrantFlags.writing) | bits
  }

  /// A frame that our back ends may read, or also write. It is in use no longer than a request takes.
  func grantedToUs(_ reference: UInt32, readOnly: Bool) throws(GrantStatus) -> UInt64 {
    try granted(reference, readOnly: readOnly, maps: true, to: 0).frame
  }

  /// What is copied from or to. It is in use no longer than the copy takes.
  func placeForCopy(_ reference: UInt32, readOnly: Bool) throws(GrantStatus) -> GrantTable.Place {
    try granted(reference, readOnly: readOnly, maps: false)
  }

  /// GNTTABOP_setup_table may ask for more frames than there are yet.
  func grow(to count: UInt64) -> Bool {
    guard count <= UInt64(entryFrames.count) else { return false }
    if count > table.frameCount {
      for frame in (entryFrames.lowerBound + table.frameCount)..<(entryFrames.lowerBound + count) {
        frames.bytes(frame)?.initializeMemory(as: UInt8.self, repeating: 0, count: 4096)
      }
      table.frameCount = count
    }
    if table.version == 2 { table.statusCount = GrantTable.statusCount(table.frameCount) }
    updateLentFrames()
    return true
  }

  var frameLimit: UInt64 { UInt64(entryFrames.count) }
  func frame(_ number: UInt64) -> UInt64 { entryFrames.lowerBound + number }
  func statusFrame(_ number: UInt64) -> UInt64 { statusFrames.lowerBound + number }

  /// GNTTABOP_set_version.
  func setVersion(_ version: Int) throws(XenError) {
    guard version != table.version else { return }
    guard !table.uses.keys.contains(where: { $0 >= GrantTable.reservedCount }) else { throw .busy }
    // The entries that outlive it, as version 1 has them; the status of version 2 is among the flags.
    var reserved: [UInt64] = []
    for reference in 0..<GrantTable.reservedCount {
      guard let entry = self.entry(reference) else { return }
      guard table.version == 2 else {
        reserved.append(entry.load(as: UInt64.self))
        continue
      }
      let (header, frame) = (entry.load(as: UInt32.self), entry.load(fromByteOffset: 8, as: UInt64.self))
      switch UInt16(truncatingIfNeeded: header) & GrantFlags.type {
      case GrantFlags.permitsAccess:
        guard frame >> 32 == 0 else { throw .outOfRange }
        reserved.append(UInt64(header) | UInt64(status(reference)?.pointee ?? 0) | frame << 32)
      case GrantFlags.isTransitive: throw .outOfRange
      default: reserved.append(0)
      }
    }
    if table.version == 2 {
      let statuses = statusFrames.lowerBound..<(statusFrames.lowerBound + table.statusCount)
      guard !statuses.contains(where: { memory.tables.isReferenced($0) }) else { throw .busy }
    }
    for number in 0..<table.frameCount { clear(frame(number)) }
    table.version = version
    table.statusCount = version == 2 ? GrantTable.statusCount(table.frameCount) : 0
    for number in 0..<table.statusCount { clear(statusFrame(number)) }
    updateLentFrames()
    for (reference, word) in reserved.enumerated() {
      guard let entry = self.entry(UInt32(reference)) else { return }
      guard version == 2 else {
        entry.storeBytes(of: word, as: UInt64.self)
        continue
      }
      let use = GrantFlags.reading | GrantFlags.writing
      entry.storeBytes(of: UInt32(truncatingIfNeeded: word) & ~UInt32(use), as: UInt32.self)
      entry.storeBytes(of: word >> 32, toByteOffset: 8, as: UInt64.self)
      status(UInt32(reference))?.pointee = UInt16(truncatingIfNeeded: word) & use
    }
  }

  private func clear(_ frame: UInt64) {
    frames.bytes(frame)?.initializeMemory(as: UInt8.self, repeating: 0, count: 4096)
  }

  /// GNTTABOP_swap_grant_ref.
  func swap(_ first: UInt32, _ second: UInt32) -> GrantStatus {
    guard let one = entry(first), let other = entry(second) else { return .badReference }
    guard first != second else { return .okay }
    guard table.uses[first] == nil, table.uses[second] == nil else { return .again }
    for offset in 0..<table.entrySize {
      let byte = one.load(fromByteOffset: offset, as: UInt8.self)
      one.storeBytes(of: other.load(fromByteOffset: offset, as: UInt8.self), toByteOffset: offset, as: UInt8.self)
      other.storeBytes(of: byte, toByteOffset: offset, as: UInt8.self)
    }
    if table.version == 2, let one = status(first), let other = status(second) {
      (one.pointee, other.pointee) = (other.pointee, one.pointee)
    }
    return .okay
  }
}
