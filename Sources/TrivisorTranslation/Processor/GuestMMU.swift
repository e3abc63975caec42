// The guest's page tables, walked in software with all that the processor checks and changes: four levels, PAE and the
// two-level legacy format; large pages; present, writable, user, no-execute and reserved bits; CR0.WP, SMEP and SMAP;
// protection keys; accessed and dirty bits, set by compare-and-exchange as the processor does (AMD64 APM vol. 2, chapter 5).
//
//     linear address ─▶ level 4 ─▶ level 3 ─▶ level 2 ─▶ level 1 ─▶ physical page
//                        rights are the AND of all levels (NX: the OR)
//
// The walk first reads all levels, then checks, and only then sets bits: a fault leaves the tables alone, but for
// accessed bits, which a processor may set early and this one does not.

import TrivisorCWorldSwitch
import TrivisorVMM
import TrivisorX86

/// What an access is for.
enum MemoryAccess {
  case read, write, execute
}

/// Translates linear addresses, by the registers that `ControlState` gives it.
final class GuestMMU {
  @exclusivity(unchecked) var registers = PagingRegisters()
  /// PAE keeps the four top entries in the processor from the moment that CR3 is loaded.
  private(set) var pointerTable: Levels<PageTableEntry> = ([], [], [], [])
  /// A value for each level of the walk.
  typealias Levels<Value> = (Value, Value, Value, Value)
  /// Whether the last translation survives loads of CR3.
  @exclusivity(unchecked) private(set) var isGlobal = false
  /// log2 of the size of the last translation's page.
  @exclusivity(unchecked) private(set) var pageShift: UInt64 = 12
  /// The protection key of the last translation's page, if keys count for it.
  @exclusivity(unchecked) private(set) var key: UInt8 = 0
  /// What the keys take.
  @exclusivity(unchecked) var pkru = PKRU.none
  /// Told the physical address of every entry whose accessed or dirty bit was set.
  var entryChanged: (UInt64) -> Void = { _ in }

  /// CPUID announces pages of 1 GiB: else the bit that asks for one is reserved.
  var hasGibibytePages = true

  /// Translations of the upper half count as global: they are a domain's kernel's, which has them under all of its roots.
  var keepsUpperHalf = false
  /// Asked of a physical and a linear address, when user code may not write there: whether its surroundings carry the store out.
  var takesStore: ((UInt64, UInt64) -> Bool)?

  /// What everybody may read beside what the guest's tables say, if there is such a thing.
  var window: MappedWindow?

  /// The page of the local APIC's registers: it hides RAM at the same place. `.max` if there is none.
  @exclusivity(unchecked) var localPage: UInt64 = 0xfee0_0000

  private let memory: PhysicalMemory

  init(memory: PhysicalMemory) { self.memory = memory }

  /// Address bits above the 40 bits of physical addresses that the processor model announces.
  private static let beyondPhysical = PageTableEntry(rawValue: 0x000f_ff00_0000_0000)
  /// Reserved in PAE's pointer table: all but P, PWT, PCD, the software's bits and the address.
  private static let reservedInPointerTable = PageTableEntry(rawValue: 0xfff0_0000_0000_01e6).union(beyondPhysical)

  /// RAM of this process behind a guest physical address, if all bytes are RAM and the guest sees them.
  @inline(__always)
  func host(_ physical: UInt64, count: UInt64) -> UnsafeMutableRawPointer? {
    if physical &+ count > localPage, physical <= localPage | 4095 { return nil }
    return memory.host(physical, count: count)
  }

  /// The guest physical address of a byte of RAM, of which all regions lie in one mapping.
  @inline(__always)
  func physical(_ host: UInt64) -> UInt64 { memory.physical(host) }

  /// - Parameters:
  ///   - isUser: the access has the rights of CPL 3.
  ///   - overridesSMAP: RFLAGS.AC is set and the access is explicit.
  /// - Returns: the physical address.
  /// - Throws: a page fault.
  func translate(
    _ linear: UInt64, _ access: MemoryAccess, isUser: Bool, overridesSMAP: Bool
  ) throws(GuestException) -> UInt64 {
    key = 0
    guard registers.isPaging else {
      isGlobal = false
      pageShift = 12
      return linear & 0xffff_ffff
    }
    if let window, window.addresses.contains(linear) {
      guard access == .read else { throw fault(linear, access, isUser, .present) }
      isGlobal = true
      pageShift = 12
      return window.physical &+ (linear &- window.addresses.lowerBound)
    }
    if registers.isLongMode {
      let root = PageTableEntry(rawValue: registers.cr3).address
      return try walk(linear, root: root, topShift: 39, isWide: true, access, isUser, overridesSMAP)
    }
    if registers.usesPointerTable {
      let entry =
        switch linear >> 30 & 3 {
        case 0: pointerTable.0
        case 1: pointerTable.1
        case 2: pointerTable.2
        default: pointerTable.3
        }
      guard entry.contains(.present) else { throw fault(linear, access, isUser, []) }
      return try walk(linear, root: entry.address, topShift: 21, isWide: true, access, isUser, overridesSMAP)
    }
    return try walk(
      linear, root: registers.cr3 & CR3.directory, topShift: 22, isWide: false, access, isUser, overridesSMAP)
  }

  /// Loads PAE's pointer table; call when CR3, or what selects PAE, changes.
  /// - Throws: #GP when a present entry has reserved bits.
  func loadPointerTable(from root: UInt64) throws(GuestException) {
    let base = root & 0xffff_ffe0
    try setPointerTable([base, base + 8, base + 16, base + 24].map { PageTableEntry(rawValue: read64($0)) })
  }

  /// Puts four entries in the processor that are not, or no longer, those in memory.
  /// - Throws: #GP when a present one has reserved bits.
  func setPointerTable(_ entries: [PageTableEntry]) throws(GuestException) {
    for entry in entries where entry.contains(.present) && !entry.isDisjoint(with: Self.reservedInPointerTable) {
      throw GuestException.general
    }
    pointerTable = (entries[0], entries[1], entries[2], entries[3])
  }

  private func fault(_ linear: UInt64, _ access: MemoryAccess, _ isUser: Bool, _ bits: PageFaultError) -> GuestException
  {
    var code = bits
    if access == .write { code.insert(.write) }
    if isUser { code.insert(.user) }
    // The fetch bit is only reported where there is a way to forbid fetching.
    let (cr4, efer) = (registers.cr4, registers.efer)
    let tellsFetch =
      (efer.contains(.noExecute) && cr4.contains(.physicalAddressExtension))
      || cr4.contains(.supervisorExecutionPrevention)
    if access == .execute, tellsFetch { code.insert(.fetch) }
    return .pageFault(code, at: linear)
  }

  private func walk(
    _ linear: UInt64, root: UInt64, topShift: UInt64, isWide: Bool, _ access: MemoryAccess, _ isUser: Bool,
    _ overridesSMAP: Bool
  ) throws(GuestException) -> UInt64 {
    let indexBits: UInt64 = isWide ? 9 : 10
    let (cr0, cr4) = (registers.cr0, registers.cr4)
    let noExecuteIsOn = registers.efer.contains(.noExecute)
    var entries: Levels<PageTableEntry> = ([], [], [], [])
    var places: Levels<UInt64> = (0, 0, 0, 0)
    repeat {
      var table = root
      var shift = topShift
      var rights: PageTableEntry = [.writable, .user]
      var forbidsExecution = false
      var depth = 0
      var page: UInt64
      var leaf: PageTableEntry
      while true {
        let index = linear >> shift & (1 << indexBits - 1)
        let place = table &+ index * (isWide ? 8 : 4)
        let entry = PageTableEntry(rawValue: isWide ? read64(place) : UInt64(read32(place)))
        guard entry.contains(.present) else { throw fault(linear, access, isUser, []) }
        let isLeaf =
          shift == 12
          || (entry.contains(.large) && shift < 39 && (isWide || cr4.contains(.pageSizeExtensions)))
        if hasReserved(entry, shift: shift, isLeaf: isLeaf, isWide: isWide) {
          throw fault(linear, access, isUser, [.present, .reserved])
        }
        rights.formIntersection(entry)
        if isWide, noExecuteIsOn, entry.contains(.noExecute) { forbidsExecution = true }
        switch depth {
        case 0: (entries.0, places.0) = (entry, place)
        case 1: (entries.1, places.1) = (entry, place)
        case 2: (entries.2, places.2) = (entry, place)
        default: (entries.3, places.3) = (entry, place)
        }
        depth += 1
        leaf = entry
        if isLeaf {
          isGlobal = entry.contains(.global) && cr4.contains(.pageGlobal) || keepsUpperHalf && linear >> 63 != 0
          pageShift = shift
          let offsetMask: UInt64 = (1 << shift) - 1
          page = entry.address & ~offsetMask
          // Legacy 4 MiB pages have address bits 32 to 39 in bits 13 to 20.
          if !isWide, shift == 22 { page = entry.rawValue & 0xffc0_0000 | (entry.rawValue >> 13 & 0xff) << 32 }
          page |= linear & offsetMask
          break
        }
        table = entry.address
        shift -= indexBits
      }
      let isUserPage = rights.contains(.user)
      var isAllowed = true
      if isUser {
        isAllowed = isUserPage && (access != .write || rights.contains(.writable))
        if !isAllowed, isUserPage, let takesStore, takesStore(page, linear) { return page | InterceptedStore.mark }
      } else {
        if access == .write, !rights.contains(.writable), cr0.contains(.writeProtect) { isAllowed = false }
        if isUserPage, access != .execute, cr4.contains(.supervisorAccessPrevention), !overridesSMAP {
          isAllowed = false
        }
        if isUserPage, access == .execute, cr4.contains(.supervisorExecutionPrevention) { isAllowed = false }
      }
      if access == .execute, forbidsExecution { isAllowed = false }
      if isUserPage, access != .execute, registers.hasProtectionKeys {
        key = leaf.protectionKey
        let heedsWD = access == .write && (isUser || cr0.contains(.writeProtect))
        if pkru.forbidsAccess(key) || heedsWD && pkru.forbidsWriting(key) {
          throw fault(linear, access, isUser, [.present, .protectionKey])
        }
      }
      guard isAllowed else { throw fault(linear, access, isUser, .present) }
      if setAccessed(entries, places, depth: depth, isWrite: access == .write, isWide: isWide) { return page }
      // Somebody changed an entry meanwhile: look again.
    } while true
  }

  private func hasReserved(_ entry: PageTableEntry, shift: UInt64, isLeaf: Bool, isWide: Bool) -> Bool {
    // Bit 21 of a 4 MiB page is above the address bits that lie in bits 13 to 20.
    guard isWide else { return shift == 22 && isLeaf && entry.rawValue & 1 << 21 != 0 }
    if !entry.isDisjoint(with: Self.beyondPhysical) { return true }
    if entry.contains(.noExecute), !registers.efer.contains(.noExecute) { return true }
    // PAE without long mode has no bits above the address.
    if !registers.isLongMode, !entry.isDisjoint(with: .available) { return true }
    if shift == 39 || (shift == 30 && !hasGibibytePages) { return entry.contains(.large) }
    // Below a large page's address, bit 12 is PAT's and the others are reserved.
    if isLeaf, shift > 12 { return entry.address & ((1 << shift) - 1) & ~PageTableEntry.largePAT.rawValue != 0 }
    return false
  }

  private func setAccessed(
    _ entries: Levels<PageTableEntry>, _ places: Levels<UInt64>, depth: Int,
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
      let wanted = entry.union(isWrite && level == depth - 1 ? [.accessed, .dirty] : .accessed)
      if wanted == entry { continue }
      // Tables outside RAM have nothing to remember the bits in.
      guard let pointer = host(place, count: isWide ? 8 : 4) else { continue }
      let isExchanged =
        isWide
        ? cws_compare_exchange(pointer.assumingMemoryBound(to: UInt64.self), entry.rawValue, wanted.rawValue)
        : cws_compare_exchange32(
          pointer.assumingMemoryBound(to: UInt32.self), UInt32(truncatingIfNeeded: entry.rawValue),
          UInt32(truncatingIfNeeded: wanted.rawValue))
      if isExchanged == 0 { return false }
      entryChanged(place)
    }
    return true
  }

  /// The way of an address through the tables that these registers name, for whoever wants to look at it.
  func walk(_ linear: UInt64, _ system: SystemRegisters) -> PageWalk {
    var system = system
    let table = pointerTable
    if registers.usesPointerTable { system.pointerTable = [table.0, table.1, table.2, table.3].map(\.rawValue) }
    return PageWalk(linear, system) { place in self.host(place, count: 8)?.loadUnaligned(as: UInt64.self) }
  }

  /// What no RAM answers reads as ones.
  private func read64(_ physical: UInt64) -> UInt64 {
    host(physical, count: 8)?.load(as: UInt64.self) ?? .max
  }

  private func read32(_ physical: UInt64) -> UInt32 {
    host(physical, count: 4)?.load(as: UInt32.self) ?? .max
  }
}
