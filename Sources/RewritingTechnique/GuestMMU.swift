// The guest's page tables, walked in software with all that the processor checks and changes: four levels, PAE and the
// two-level legacy format; large pages; present, writable, user, no-execute and reserved bits; CR0.WP, SMEP and SMAP;
// accessed and dirty bits, set by compare-and-exchange as the processor does (AMD64 APM vol. 2, chapter 5).
//
//     linear address ─▶ level 4 ─▶ level 3 ─▶ level 2 ─▶ level 1 ─▶ physical page
//                        rights are the AND of all levels (NX: the OR)
//
// The walk first reads all levels, then checks, and only then sets bits: a fault leaves the tables alone, but for
// accessed bits, which a processor may set early and this one does not.

import CWorldSwitch
import VMM

/// What an access is for.
enum MemoryAccess {
  case read, write, execute
}

/// Translates linear addresses. Everything is by the registers below, which the owner keeps up to date.
final class GuestMMU {
  @exclusivity(unchecked) var cr0: UInt64 = 0x10
  @exclusivity(unchecked) var cr3: UInt64 = 0
  @exclusivity(unchecked) var cr4: UInt64 = 0
  @exclusivity(unchecked) var efer: UInt64 = 0
  /// PAE keeps the four top entries in the processor from the moment that CR3 is loaded.
  private(set) var pointerTable: (UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0)
  /// Whether the last translation survives loads of CR3.
  @exclusivity(unchecked) private(set) var isGlobal = false
  /// log2 of the size of the last translation's page.
  @exclusivity(unchecked) private(set) var pageShift: UInt64 = 12
  /// Told the physical address of every entry whose accessed or dirty bit was set.
  var entryChanged: (UInt64) -> Void = { _ in }

  /// CPUID announces pages of 1 GiB: else the bit that asks for one is reserved.
  var hasGibibytePages = true

  private let memory: GuestMemory
  private let lowHost: UnsafeMutableRawPointer
  private let lowSize: UInt64

  init(memory: GuestMemory) {
    self.memory = memory
    lowHost = memory.regions[0].host
    lowSize = memory.regions[0].size
  }

  private enum Bit {
    static let present: UInt64 = 1, writable: UInt64 = 2, user: UInt64 = 4, accessed: UInt64 = 32, dirty: UInt64 = 64
    static let large: UInt64 = 128, global: UInt64 = 256, noExecute: UInt64 = 1 << 63
    static let address: UInt64 = 0x000f_ffff_ffff_f000
    /// Above the 40 bits of physical addresses that the processor model announces.
    static let beyondPhysical: UInt64 = 0x000f_ff00_0000_0000
  }

  private enum Code {
    static let present: UInt32 = 1, write: UInt32 = 2, user: UInt32 = 4, reserved: UInt32 = 8, fetch: UInt32 = 16
  }

  var isPaging: Bool { cr0 >> 31 != 0 }
  var isLongMode: Bool { efer & 0x400 != 0 }

  /// RAM of this process behind a guest physical address, if all bytes are RAM.
  @inline(__always)
  func host(_ physical: UInt64, count: UInt64) -> UnsafeMutableRawPointer? {
    if physical < lowSize, count <= lowSize &- physical { return lowHost + Int(physical) }
    return memory.host(GuestPhysicalAddress(physical), count: count)
  }

  /// The guest physical address of a byte of RAM, of which all regions lie in one mapping.
  @inline(__always)
  func physical(_ host: UInt64) -> UInt64 {
    let offset = host &- UInt64(UInt(bitPattern: lowHost))
    return offset < lowSize ? offset : GuestMemory.highBase &+ (offset &- lowSize)
  }

  /// Bits 47 to 63 are equal.
  static func isCanonical(_ linear: UInt64) -> Bool {
    let top = Int64(bitPattern: linear) >> 47
    return top == 0 || top == -1
  }

  /// - Parameters:
  ///   - isUser: the access has the rights of CPL 3.
  ///   - overridesSMAP: RFLAGS.AC is set and the access is explicit.
  /// - Returns: the physical address.
  /// - Throws: a page fault.
  func translate(
    _ linear: UInt64, _ access: MemoryAccess, isUser: Bool, overridesSMAP: Bool
  ) throws(GuestException) -> UInt64 {
    guard isPaging else {
      isGlobal = false
      pageShift = 12
      return linear & 0xffff_ffff
    }
    let isPAE = cr4 & 0x20 != 0
    if isLongMode {
      return try walk(linear, root: cr3 & Bit.address, topShift: 39, isWide: true, access, isUser, overridesSMAP)
    }
    if isPAE {
      let entry =
        switch linear >> 30 & 3 {
        case 0: pointerTable.0
        case 1: pointerTable.1
        case 2: pointerTable.2
        default: pointerTable.3
        }
      guard entry & Bit.present != 0 else { throw fault(linear, access, isUser, 0) }
      return try walk(linear, root: entry & Bit.address, topShift: 21, isWide: true, access, isUser, overridesSMAP)
    }
    return try walk(linear, root: cr3 & 0xffff_f000, topShift: 22, isWide: false, access, isUser, overridesSMAP)
  }

  /// Loads PAE's pointer table; call when CR3, or what selects PAE, changes.
  /// - Throws: #GP when a present entry has reserved bits.
  func loadPointerTable(from root: UInt64) throws(GuestException) {
    let base = root & 0xffff_ffe0
    try setPointerTable((read64(base), read64(base + 8), read64(base + 16), read64(base + 24)))
  }

  /// Puts entries in the processor that are not, or no longer, those in memory.
  /// - Throws: #GP when a present one has reserved bits.
  func setPointerTable(_ entries: (UInt64, UInt64, UInt64, UInt64)) throws(GuestException) {
    for entry in [entries.0, entries.1, entries.2, entries.3]
    where entry & Bit.present != 0 && entry & (0xfff0_0000_0000_01e6 | Bit.beyondPhysical) != 0 {
      throw GuestException.general
    }
    pointerTable = entries
  }

  private func fault(_ linear: UInt64, _ access: MemoryAccess, _ isUser: Bool, _ bits: UInt32) -> GuestException {
    var code = bits
    if access == .write { code |= Code.write }
    if isUser { code |= Code.user }
    // The fetch bit is only reported where there is a way to forbid fetching.
    let tellsFetch = (efer & 0x800 != 0 && cr4 & 0x20 != 0) || cr4 & 1 << 20 != 0
    if access == .execute, tellsFetch { code |= Code.fetch }
    return GuestException(vector: 14, errorCode: code, address: linear)
  }

  private func walk(
    _ linear: UInt64, root: UInt64, topShift: UInt64, isWide: Bool, _ access: MemoryAccess, _ isUser: Bool,
    _ overridesSMAP: Bool
  ) throws(GuestException) -> UInt64 {
    let indexBits: UInt64 = isWide ? 9 : 10
    let noExecuteIsOn = efer & 0x800 != 0
    var entries: (UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0)
    var places: (UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0)
    repeat {
      var table = root
      var shift = topShift
      var rights = Bit.writable | Bit.user
      var forbidsExecution = false
      var depth = 0
      var page: UInt64
      while true {
        let index = linear >> shift & (1 << indexBits - 1)
        let place = table &+ index * (isWide ? 8 : 4)
        let entry = isWide ? read64(place) : UInt64(read32(place))
        guard entry & Bit.present != 0 else { throw fault(linear, access, isUser, 0) }
        let isLeaf =
          shift == 12 || (entry & Bit.large != 0 && shift < 39 && (isWide || cr4 & 0x10 != 0))
        if hasReserved(entry, shift: shift, isLeaf: isLeaf, isWide: isWide) {
          throw fault(linear, access, isUser, Code.present | Code.reserved)
        }
        rights &= entry
        if isWide, noExecuteIsOn, entry & Bit.noExecute != 0 { forbidsExecution = true }
        switch depth {
        case 0: (entries.0, places.0) = (entry, place)
        case 1: (entries.1, places.1) = (entry, place)
        case 2: (entries.2, places.2) = (entry, place)
        default: (entries.3, places.3) = (entry, place)
        }
        depth += 1
        if isLeaf {
          isGlobal = entry & Bit.global != 0 && cr4 & 0x80 != 0
          pageShift = shift
          let offsetMask: UInt64 = (1 << shift) - 1
          page = entry & Bit.address & ~offsetMask
          // Legacy 4 MiB pages have address bits 32 to 39 in bits 13 to 20.
          if !isWide, shift == 22 { page = entry & 0xffc0_0000 | (entry >> 13 & 0xff) << 32 }
          page |= linear & offsetMask
          break
        }
        table = entry & Bit.address
        shift -= indexBits
      }
      let isUserPage = rights & Bit.user != 0
      var isAllowed = true
      if isUser {
        isAllowed = isUserPage && (access != .write || rights & Bit.writable != 0)
      } else {
        if access == .write, rights & Bit.writable == 0, cr0 & 0x1_0000 != 0 { isAllowed = false }
        if isUserPage, access != .execute, cr4 & 1 << 21 != 0, !overridesSMAP { isAllowed = false }
        if isUserPage, access == .execute, cr4 & 1 << 20 != 0 { isAllowed = false }
      }
      if access == .execute, forbidsExecution { isAllowed = false }
      guard isAllowed else { throw fault(linear, access, isUser, Code.present) }
      if setAccessed(entries, places, depth: depth, isWrite: access == .write, isWide: isWide) { return page }
      // Somebody changed an entry meanwhile: look again.
    } while true
  }

  private func hasReserved(_ entry: UInt64, shift: UInt64, isLeaf: Bool, isWide: Bool) -> Bool {
    guard isWide else { return shift == 22 && isLeaf && entry & 0x20_0000 != 0 }
    if entry & Bit.beyondPhysical != 0 { return true }
    if entry & Bit.noExecute != 0, efer & 0x800 == 0 { return true }
    // PAE without long mode has no bits above the address.
    if !isLongMode, entry & 0x7ff0_0000_0000_0000 != 0 { return true }
    if shift == 39 || (shift == 30 && !hasGibibytePages) { return entry & Bit.large != 0 }
    if isLeaf, shift > 12 { return entry & ((1 << shift) - 1) & 0x3fff_e000 != 0 }
    return false
  }

  private func setAccessed(
    _ entries: (UInt64, UInt64, UInt64, UInt64), _ places: (UInt64, UInt64, UInt64, UInt64), depth: Int,
    isWrite: Bool, isWide: Bool
  ) -> Bool {
    for level in 0..<depth {
      let (entry, place) =
        switch level {
        case 0: (entries.0, places.0)
        case 1: (entries.1, places.1)
        case 2: (entries.2, places.2)
        default: (entries.3, places.3)
        }
      let wanted = entry | Bit.accessed | (isWrite && level == depth - 1 ? Bit.dirty : 0)
      if wanted == entry { continue }
      // Tables outside RAM have nothing to remember the bits in.
      guard let pointer = host(place, count: isWide ? 8 : 4) else { continue }
      let isExchanged =
        isWide
        ? cws_compare_exchange(pointer.assumingMemoryBound(to: UInt64.self), entry, wanted)
        : cws_compare_exchange32(
          pointer.assumingMemoryBound(to: UInt32.self), UInt32(truncatingIfNeeded: entry),
          UInt32(truncatingIfNeeded: wanted))
      if isExchanged == 0 { return false }
      entryChanged(place)
    }
    return true
  }

  /// What no RAM answers reads as ones.
  private func read64(_ physical: UInt64) -> UInt64 {
    host(physical, count: 8)?.load(as: UInt64.self) ?? .max
  }

  private func read32(_ physical: UInt64) -> UInt32 {
    host(physical, count: 4)?.load(as: UInt32.self) ?? .max
  }
}
