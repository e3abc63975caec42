import TrivisorInstructionSet
import TrivisorVMM
import TrivisorX86

/// An 8-byte descriptor, or a 16-byte one of a system segment in long mode (AMD64 APM vol. 2, 4.7 and 4.8).
struct Descriptor {
  let low: SegmentDescriptor
  /// The second eight bytes, of which the lower half is the base's or the offset's.
  var high: UInt64 = 0

  init(low: UInt64) { self.low = SegmentDescriptor(rawValue: low) }

  var rights: SegmentAttributes { low.attributes }
  var systemType: SystemSegmentType? { rights.systemType }
  var privilege: UInt8 { rights.privilege }
  var isPresent: Bool { rights.contains(.present) }
  var isSystem: Bool { rights.isSystem }
  var isCode: Bool { rights.isCode }
  var isConforming: Bool { rights.contains(.conforming) }
  /// 64-bit code; together with D it is reserved.
  var isLong: Bool { rights.contains(.long) }
  var isReservedLong: Bool { rights.contains([.long, .big]) }
  var base: UInt64 { UInt64(low.base) | high << 32 }
  var limit: UInt32 { low.limit }

  /// Of a gate: where it leads to in the segment that its selector names.
  var gateSelector: Selector { Selector(rawValue: low.gateSelector) }
  var gateOffset: UInt64 { UInt64(low.gateOffset) | high << 32 }

  func segment(_ selector: UInt16) -> Segment {
    Segment(selector: selector, base: base, limit: limit, rights: rights)
  }

  /// As the processor leaves it in a segment register: the descriptor has been accessed.
  func accessedSegment(_ selector: UInt16) -> Segment {
    Segment(selector: selector, base: base, limit: limit, rights: rights.union(.accessed))
  }
}

extension Selector {
  /// As an error code tells it: without the requested privilege.
  var errorCode: UInt32 { UInt32(rawValue & ~3) }

  /// With another requested privilege.
  func with(privilege: UInt8) -> UInt16 { rawValue & ~3 | UInt16(privilege) }
}

extension InstructionContext {
  /// Reads a descriptor; `outside` is what is raised if it lies outside its table.
  func descriptor(
    _ selector: Selector, outside: GuestException, isWide: Bool = false
  ) throws(Interruption) -> Descriptor {
    if let descriptorKeeper {
      guard let low = descriptorKeeper.descriptor(selector.rawValue) else { throw .exception(outside) }
      var found = Descriptor(low: low)
      guard isWide else { return found }
      guard let high = descriptorKeeper.descriptor(selector.rawValue &+ SegmentDescriptor.size) else {
        throw .exception(outside)
      }
      found.high = high & 0xffff_ffff
      return found
    }
    if selector.isLocal, localTable.isNull { throw .exception(outside) }
    let base = tableBase(selector)
    let limit = selector.isLocal ? localTable.limit : UInt32(gdt.limit)
    let offset = UInt64(selector.offset)
    guard offset + (isWide ? 15 : 7) <= UInt64(limit) else { throw .exception(outside) }
    var found = Descriptor(low: try loadTable(base &+ offset, size: 8))
    if isWide { found.high = try loadTable(base &+ offset &+ 8, size: 8) & 0xffff_ffff }
    return found
  }

  /// Of a selector that isn't null; #GP with its error code if it lies outside its table.
  func descriptor(_ selector: Selector, isWide: Bool = false) throws(Interruption) -> Descriptor {
    try descriptor(selector, outside: .general(selector.errorCode), isWide: isWide)
  }

  /// Whether there is a table for a selector, and it reaches as far.
  func hasDescriptor(_ selector: Selector) -> Bool {
    if let descriptorKeeper { return descriptorKeeper.descriptor(selector.rawValue) != nil }
    let table = localTable
    if selector.isLocal, table.isUnusable || table.isNull { return false }
    let limit = selector.isLocal ? table.limit : UInt32(gdt.limit)
    return UInt32(selector.rawValue | 7) <= limit
  }

  private func tableBase(_ selector: Selector) -> UInt64 { selector.isLocal ? localTable.base : gdt.base }

  /// Sets a bit of the descriptor's type, if it is not set: the accessed bit of code and data, the busy bit of a TSS.
  func mark(_ selector: Selector, _ found: Descriptor, _ bit: SegmentAttributes = .accessed) throws(Interruption) {
    guard !found.rights.contains(bit) else { return }
    if let descriptorKeeper {
      if bit == .accessed { descriptorKeeper.noteAccessed(selector.rawValue) }
      return
    }
    let place = tableBase(selector) &+ UInt64(selector.offset) &+ SegmentDescriptor.attributesOffset
    let value = try loadTable(place, size: 1) | UInt64(bit.rawValue)
    try save(place, value, size: 1, isStack: false, asSupervisor: true)
  }
}
