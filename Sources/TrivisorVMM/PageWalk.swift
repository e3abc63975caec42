import TrivisorX86

/// The way of a linear address through page tables, as somebody sees it who only looks: no accessed bits, no rights, no faults.
public struct PageWalk: Sendable, Equatable {
  /// One table on the way.
  public struct Step: Sendable, Equatable {
    /// As the manuals call it: PML4E, PDPE, PDE, PTE (AMD64 APM vol. 2, 5.3).
    public let name: String
    /// Guest physical address of the entry.
    public let place: UInt64
    /// What is there.
    public let entry: PageTableEntry

    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    public init(name: String, place: UInt64, entry: PageTableEntry) {
      self.name = name
      self.place = place
      self.entry = entry
    }
  }

  /// What was looked for.
  public let linear: UInt64
  /// From the root on; the last one leads nowhere where there is no physical address. None without paging.
  public private(set) var steps: [Step] = []
  /// Where it is in guest physical memory.
  public private(set) var physical: UInt64?
  /// Bytes of the page, from 4 KiB on.
  public private(set) var pageSize: UInt64 = 4096

  /// One that leads nowhere.
  public init(linear: UInt64) { self.linear = linear }

  /// By the tables of a processor.
  /// - Parameters:
  ///   - registers: CR0, CR3, CR4 and EFER, and PAE's top entries where the processor has them.
  ///   - read: the eight bytes at a guest physical address, `nil` where there is no RAM.
  public init(_ linear: UInt64, _ registers: SystemRegisters, read: (UInt64) -> UInt64?) {
    self.linear = linear
    let (cr0, cr4) = (CR0(rawValue: registers.cr0), CR4(rawValue: registers.cr4))
    guard cr0.contains(.paging) else {
      physical = linear & UInt64(UInt32.max)
      return
    }
    if EFER(rawValue: registers.efer).contains(.longModeActive) {
      guard LinearAddress.isCanonical(linear) else { return }
      follow(
        PageTableEntry(rawValue: registers.cr3).address, ["PML4E", "PDPE", "PDE", "PTE"], isWide: true, true, read)
    } else if cr4.contains(.physicalAddressExtension) {
      let number = linear >> 30 & 3
      let place = (registers.cr3 & CR3.pointerTable) &+ number * 8
      let kept = registers.pointerTable.count == 4 ? registers.pointerTable[Int(number)] : read(place)
      guard let kept else { return }
      let entry = PageTableEntry(rawValue: kept)
      steps.append(Step(name: "PDPE", place: place, entry: entry))
      guard entry.contains(.present) else { return }
      follow(entry.address, ["PDE", "PTE"], isWide: true, true, read)
    } else {
      follow(
        registers.cr3 & CR3.directory, ["PDE", "PTE"], isWide: false, cr4.contains(.pageSizeExtensions), read)
    }
  }

  /// By tables that name frames of their own counting.
  /// - Parameters:
  ///   - root: the frame of the first table.
  ///   - levels: 4, or 3, of which the first has four entries.
  ///   - entry: the entry of a frame's table at a position.
  ///   - place: the guest physical address of a frame.
  public init(
    _ linear: UInt64, tables root: UInt64, levels: Int, entry: (_ frame: UInt64, _ position: UInt64) -> UInt64?,
    place: (_ frame: UInt64) -> UInt64?
  ) {
    self.linear = linear
    guard levels == 3 || LinearAddress.isCanonical(linear) else { return }
    var frame = root
    for (position, name) in ["PML4E", "PDPE", "PDE", "PTE"].suffix(levels).enumerated() {
      let index = linear >> UInt64(12 + 9 * (levels - 1 - position)) & 511
      guard let value = entry(frame, index), let table = place(frame) else { return }
      let found = PageTableEntry(rawValue: value)
      steps.append(Step(name: name, place: table + 8 * index, entry: found))
      guard found.contains(.present) else { return }
      frame = found.address >> 12
    }
    physical = place(frame).map { $0 | linear & 4095 }
  }

  private mutating func follow(
    _ root: UInt64, _ names: [String], isWide: Bool, _ hasLarge: Bool, _ read: (UInt64) -> UInt64?
  ) {
    let indexBits: UInt64 = isWide ? 9 : 10
    var table = root
    for (position, name) in names.enumerated() {
      let shift = 12 + indexBits * UInt64(names.count - 1 - position)
      let index = linear >> shift & (1 << indexBits - 1)
      let place = table &+ index * (isWide ? 8 : 4)
      guard let value = read(place) else { return }
      let entry = PageTableEntry(rawValue: isWide ? value : value & UInt64(UInt32.max))
      steps.append(Step(name: name, place: place, entry: entry))
      guard entry.contains(.present) else { return }
      let isLeaf = shift == 12 || (entry.contains(.large) && hasLarge && shift < 39)
      if isLeaf {
        pageSize = 1 << shift
        let mask = pageSize - 1
        var page = entry.address & ~mask
        // Legacy pages of 4 MiB have address bits 32 to 39 in bits 13 to 20 (AMD64 APM vol. 2, 5.2.1).
        if !isWide, shift > 12 { page = entry.rawValue & 0xffc0_0000 | (entry.rawValue >> 13 & 0xff) << 32 }
        physical = page | linear & mask
        return
      }
      table = entry.address
    }
  }
}
