// The domain builder: from a Xen PV kernel to a domain that can take its first step.
//
// A paravirtual kernel begins where others arrive after a thousand instructions: in its final processor mode, mapped at
// the addresses that it was linked for, told of everything by one structure. So building is mostly making page tables:
//
//     VIRT_BASE  kernel │ p2m list │ start_info │ xenstore │ console │ page tables (read-only) │ boot stack │ slack
//
// in ascending pseudo-physical frames from 0, rounded up to 4 MiB with at least 512 KiB of slack (Xen's public header
// xen.h, "Guest start of day"). What is handed over names the root's machine frame and the address of start_info, from
// which the domain learns where all the other structures are.

import TrivisorVMM

/// Builds a Xen PV domain in guest memory: of 64 bits, or of 32 bits with PAE.
struct XenDomainLoader {
  private static let pageSize = GuestMemory.pageSize
  private static let slack: UInt64 = 512 << 10
  private static let rounding: UInt64 = 4 << 20
  private static let maximumCommandLine = 1023
  /// Xen keeps this part of the address space for itself; of 32 bits, the end.
  private static let reserved: Range<UInt64> = 0xffff_8000_0000_0000..<0xffff_8800_0000_0000
  private static let limit32: UInt64 = 0xf580_0000
  /// Where the part of the address space begins that a host's kernel has for itself.
  private static let upperHalf: UInt64 = 1 << 47

  /// What differs between 64 and 32 bits.
  private struct Width {
    let isWide: Bool
    /// Of unsigned long, in bytes.
    var word: UInt64 { isWide ? 8 : 4 }
    /// Where each level above the last divides addresses.
    var shifts: [UInt64] { isWide ? [39, 30, 21] : [30, 21] }
  }

  let image: BootImage
  let commandLine: String
  /// Taken one behind the other, as Linux does; most kernels want one.
  let initialRamdisks: [BootImage]

  /// Where the pieces are, in pseudo-physical frames.
  private struct Plan {
    let base: UInt64
    /// The initial ramdisk's first frame, whether it is mapped, and its size in bytes; 0 for none.
    var module: UInt64 = 0
    var isModuleMapped = true
    var moduleSize: UInt64 = 0
    /// The list of machine frames, its frames, and where it is mapped.
    var list: UInt64 = 0
    var listSize: UInt64 = 0
    var listAddress: UInt64 = 0
    /// Whether that is a place of its own, for which there are tables before the list's first frame.
    var hasOwnListAddress = false
    var startInfo: UInt64 = 0
    var store: UInt64 { startInfo + 1 }
    var console: UInt64 { startInfo + 2 }
    var tables: UInt64 { startInfo + 3 }
    var tableCount: UInt64 = 4
    var stack: UInt64 { tables + tableCount }
    /// Pages mapped from `base` on.
    var mapped: UInt64 = 0

    func address(_ frame: UInt64) -> UInt64 { base &+ frame &* XenDomainLoader.pageSize }
  }

  func load(into memory: GuestMemory) throws(BootFailure) -> LoadedGuest {
    guard commandLine.utf8.count <= Self.maximumCommandLine else {
      throw failure(.commandLineTooLong(count: commandLine.utf8.count, limit: Self.maximumCommandLine))
    }
    guard let notes = try XenNotes.find(image) else {
      throw Self.missingNotes(image.name)
    }
    let header = try ELFHeader(try image.prefix(ELFHeader.maximumSize, as: "the ELF header"))
    let width = Width(isWide: header.elfClass == .elf64)
    let base = notes.virtualBase ?? 0
    try check(notes, width)
    let end = try place(header, notes, memory)
    let plan = try plan(notes, kernelEnd: end, width, memory)
    try placeModules(plan, memory)
    do throws(GuestMemoryFault) {
      try writePageTables(plan, width, memory)
      if plan.hasOwnListAddress { try mapList(plan, width, memory) }
      try writeStartInfo(plan, width, memory)
      for frame in 0..<XenMachine.domainFrameCount(memory) {
        let place = physical(plan.list &* Self.pageSize &+ frame &* width.word)
        if width.isWide {
          try memory.write(XenMachine.firstFrame + frame, at: place)
        } else {
          try memory.write(UInt32(truncatingIfNeeded: XenMachine.firstFrame + frame), at: place)
        }
      }
      if let page = notes.hypercallPage {
        try memory.copy(XenHypercallPage.bytes(is64Bit: width.isWide), to: physical(page &- base))
      }
    } catch {
      throw failure(.outsideMemory(part: "the domain", base: error.address.rawValue, size: error.count))
    }
    let start = XenDomainStart(
      is64Bit: width.isWide, entry: notes.entry ?? header.entry, stack: plan.address(plan.stack &+ 1),
      startInfo: plan.address(plan.startInfo), rootFrame: XenMachine.firstFrame + plan.tables)
    return LoadedGuest(
      kind: .xen, handover: .xenDomain(start), memoryMap: MemoryMap(memory),
      notes: [
        "Xen domain: kernel at \(hexadecimal(base)), entered at \(hexadecimal(start.entry)), \(plan.mapped) pages mapped"
      ] + (plan.moduleSize > 0 ? ["initial ramdisk: \(plan.moduleSize) bytes from frame \(plan.module) on"] : []))
  }

  static func missingNotes(_ image: String) -> BootFailure {
    BootFailure(image, .notOfKind(.xen, problem: "it has no Xen notes that name a loader and xen-3.0"))
  }

  private func failure(_ reason: BootFailure.Reason) -> BootFailure { BootFailure(image.name, reason) }

  private func physical(_ address: UInt64) -> GuestPhysicalAddress { GuestPhysicalAddress(address) }

  /// What the kernel wants and can't be had is said before it starts.
  private func check(_ notes: XenNotes, _ width: Width) throws(BootFailure) {
    let base = notes.virtualBase ?? 0
    guard base % Self.pageSize == 0 else {
      throw failure(.malformed(part: "the note VIRT_BASE", problem: "is not the address of a page"))
    }
    guard notes.physicalOffset == nil || notes.virtualBase != nil else {
      throw failure(.malformed(part: "the note PADDR_OFFSET", problem: "is there, and VIRT_BASE is not"))
    }
    if !width.isWide, notes.isWithoutPAE {
      throw failure(
        .unsupported(
          "is a Xen kernel for page tables without PAE", remedy: "build it with PAE, as Xen has it since 4.0"))
    }
    if let feature = notes.missingFeature {
      throw failure(
        .unsupported(
          "needs the Xen feature \(feature), which no paravirtual domain has", remedy: "build it without"))
    }
  }

  /// Copies the segments, and behind them the symbols that the kernel wants.
  /// - Returns: where the last one ends, in pseudo-physical memory.
  private func place(_ header: ELFHeader, _ notes: XenNotes, _ memory: GuestMemory) throws(BootFailure) -> UInt64 {
    let table = try image.read(
      "the program header table", at: header.segmentTableOffset, count: header.segmentTableSize)
    var taken: [Range<UInt64>] = []
    let limit = min(memory.regions[0].size, XenMachine.domainFrameCount(memory) * Self.pageSize)
    for segment in try header.segments(table) where segment.type == ELFHeader.Segment.load && segment.memorySize > 0 {
      let place = segment.physicalAddress.subtractingReportingOverflow(notes.physicalOffset ?? 0)
      let end = place.partialValue.addingReportingOverflow(segment.memorySize)
      guard !place.overflow, !end.overflow, end.partialValue <= limit else {
        throw failure(.outsideMemory(part: segment.name, base: segment.physicalAddress, size: segment.memorySize))
      }
      guard segment.fileSize <= segment.memorySize else {
        throw failure(.malformed(part: segment.name, problem: "is larger in the file than in memory"))
      }
      let range = place.partialValue..<end.partialValue
      if taken.contains(where: { $0.overlaps(range) }) {
        throw failure(
          .overlap(part: segment.name, base: range.lowerBound, size: segment.memorySize, other: "another segment"))
      }
      taken.append(range)
      try image.copy(segment.name, at: segment.fileOffset, count: segment.fileSize, to: range.lowerBound, of: memory)
    }
    guard let end = taken.map(\.upperBound).max() else {
      throw failure(.malformed(part: "the program header table", problem: "names nothing to load (no PT_LOAD)"))
    }
    guard notes.wantsSymbols else { return end }
    return try XenKernelSymbols(image: image, elfClass: header.elfClass).place(behind: end, limit: limit, memory)
  }

  /// The initial ramdisks' size together, each at a multiple of 4.
  private func moduleSize(_ memory: GuestMemory) throws(BootFailure) -> UInt64 {
    var size: UInt64 = 0
    for ramdisk in initialRamdisks {
      size = (size + 3) & ~3
      guard ramdisk.size <= memory.size, size <= memory.size else {
        throw BootFailure(
          ramdisk.name, .noRoom(part: "the initial ramdisk", size: ramdisk.size, below: memory.size))
      }
      size += ramdisk.size
    }
    return size
  }

  private func placeModules(_ plan: Plan, _ memory: GuestMemory) throws(BootFailure) {
    var place = plan.module * Self.pageSize
    for ramdisk in initialRamdisks {
      place = (place + 3) & ~3
      try ramdisk.copy("the initial ramdisk", at: 0, count: ramdisk.size, to: place, of: memory)
      place += ramdisk.size
    }
  }

  private func plan(
    _ notes: XenNotes, kernelEnd: UInt64, _ width: Width, _ memory: GuestMemory
  ) throws(BootFailure) -> Plan {
    let base = notes.virtualBase ?? 0
    let frames = XenMachine.domainFrameCount(memory)
    func pages(_ size: UInt64) -> UInt64 { (size + Self.pageSize - 1) / Self.pageSize }
    var plan = Plan(base: base)
    var next = pages(kernelEnd)
    plan.moduleSize = try moduleSize(memory)
    plan.isModuleMapped = !notes.namesModuleByFrame
    if plan.isModuleMapped {
      plan.module = next
      next += pages(plan.moduleSize)
    }
    plan.listSize = pages(frames * width.word)
    // As Xen's tools have it: only below the kernel, only of 64 bits.
    if let place = notes.initialList, width.isWide, place < base, place % Self.pageSize == 0, place < Self.upperHalf {
      plan.hasOwnListAddress = true
      plan.listAddress = place
    } else {
      plan.list = next
      plan.listAddress = plan.address(next)
      next += plan.listSize
    }
    plan.startInfo = next
    while true {
      let needed = (plan.tables + plan.tableCount + 1) * Self.pageSize + Self.slack
      let end = base.addingReportingOverflow(needed + Self.rounding)
      guard !end.overflow, !(base..<end.partialValue).overlaps(Self.reserved),
        width.isWide || end.partialValue <= Self.limit32
      else {
        throw failure(.wraps(part: "the domain's initial mapping", base: base, size: needed))
      }
      let last = (base + needed + Self.rounding - 1) / Self.rounding * Self.rounding - 1
      let wanted = width.shifts.reduce(1) { $0 + (last >> $1) - (base >> $1) + 1 }
      if wanted == plan.tableCount {
        plan.mapped = min((last + 1 - base) / Self.pageSize, frames)
        guard plan.tables + plan.tableCount < plan.mapped else {
          throw failure(.noRoom(part: "the domain's page tables", size: needed, below: memory.size))
        }
        break
      }
      plan.tableCount = wanted
    }
    // What is not mapped with the kernel comes behind all that is.
    next = plan.mapped
    if !plan.isModuleMapped {
      plan.module = next
      next += pages(plan.moduleSize)
    }
    if plan.hasOwnListAddress {
      plan.list = next + Self.listTableCount(plan)
      next = plan.list + plan.listSize
    }
    guard next <= frames else {
      throw failure(
        .noRoom(part: "the initial ramdisk and the domain's tables", size: next * Self.pageSize, below: memory.size))
    }
    return plan
  }

  /// How many tables the list at an address of its own takes at most: those of each level.
  private static func listTableCount(_ plan: Plan) -> UInt64 {
    let last = plan.listAddress + plan.listSize * pageSize - 1
    return [39, 30, 21].reduce(0) { $0 + (last >> $1) - (plan.listAddress >> $1) + 1 }
  }

  /// Maps the list where the kernel wants it, with tables of its own as far as there are none yet.
  private func mapList(_ plan: Plan, _ width: Width, _ memory: GuestMemory) throws(GuestMemoryFault) {
    var next = plan.list - Self.listTableCount(plan)
    for page in 0..<plan.listSize {
      let address = plan.listAddress + page * Self.pageSize
      var table = plan.tables
      for shift in width.shifts {
        let place = physical(table * Self.pageSize + (address >> shift & 511) * 8)
        let entry: UInt64 = try memory.read(at: place)
        if entry & 1 != 0 {
          table = (entry & Self.addressMask) >> 12 - XenMachine.firstFrame
        } else {
          try memory.write((XenMachine.firstFrame + next) << 12 | Self.tableFlags, at: place)
          table = next
          next += 1
        }
      }
      try memory.write(
        (XenMachine.firstFrame + plan.list + page) << 12 | Self.pageFlags,
        at: physical(table * Self.pageSize + (address >> 12 & 511) * 8))
    }
    // A table that was made is one that nobody may write to: it is not mapped, so nobody can.
  }

  private static let addressMask: UInt64 = 0x000f_ffff_ffff_f000
  /// Present, writable, user, accessed, dirty. Pages are the kernel's alone, as Xen's builders make them (of 64 bits all are the
  /// user's for the processor, so there it is a matter of what can be read).
  private static let tableFlags: UInt64 = 0x67
  private static let pageFlags: UInt64 = 0x63

  /// The root first, then the tables of each level in ascending order of address.
  private func writePageTables(
    _ plan: Plan, _ width: Width, _ memory: GuestMemory
  ) throws(GuestMemoryFault) {
    let writable: UInt64 = 2
    var next = plan.tables
    var start = next
    next += 1
    let last = plan.address(plan.mapped) &- 1
    for shift in width.shifts {
      let below = next
      let first = plan.base >> shift
      for index in first...(last >> shift) {
        // The table that holds this entry, among those of the level above.
        let isRoot = shift == width.shifts[0]
        let table = start + (isRoot ? 0 : (index >> 9) - (first >> 9))
        // The four entries of a PAE root say nothing of rights.
        let rights = isRoot && !width.isWide ? 1 : Self.tableFlags
        try memory.write(
          (XenMachine.firstFrame + next) << 12 | rights, at: physical(table * Self.pageSize + (index & 511) * 8))
        next += 1
      }
      start = below
    }
    let tables = plan.tables..<(plan.tables + plan.tableCount)
    let firstPage = plan.base >> 12
    for page in 0..<plan.mapped {
      let index = firstPage + page
      let table = start + (index >> 9) - (firstPage >> 9)
      try memory.write(
        (XenMachine.firstFrame + page) << 12 | (tables.contains(page) ? Self.pageFlags & ~writable : Self.pageFlags),
        at: physical(table * Self.pageSize + (index & 511) * 8))
    }
  }

  /// Xen's public header xen.h, `struct start_info`.
  private func writeStartInfo(_ plan: Plan, _ width: Width, _ memory: GuestMemory) throws(GuestMemoryFault) {
    let base = plan.startInfo * Self.pageSize
    /// The 64-bit offset, and the 32-bit one: ports and flags are of 32 bits in both, but aligned differently.
    func put(_ value: UInt64, _ wide: UInt64, _ narrow: UInt64) throws(GuestMemoryFault) {
      if width.isWide {
        try memory.write(value, at: physical(base + wide))
      } else {
        try memory.write(UInt32(truncatingIfNeeded: value), at: physical(base + narrow))
      }
    }
    try memory.copy(Array((width.isWide ? "xen-3.0-x86_64" : "xen-3.0-x86_32p").utf8), to: physical(base))
    try put(XenMachine.domainFrameCount(memory), 32, 32)
    try put(XenMachine.sharedInfoFrame(memory) << 12, 40, 36)
    try put(XenMachine.firstFrame + plan.store, 56, 44)
    try put(UInt64(XenMachine.storePort), 64, 48)
    try put(XenMachine.firstFrame + plan.console, 72, 52)
    try put(UInt64(XenMachine.consolePort), 80, 56)
    try put(plan.address(plan.tables), 88, 60)
    try put(plan.tableCount, 96, 64)
    try put(plan.listAddress, 104, 68)
    if plan.moduleSize > 0 {
      try put(plan.isModuleMapped ? plan.address(plan.module) : plan.module, 112, 72)
      try put(plan.moduleSize, 120, 76)
      if !plan.isModuleMapped { try put(Self.moduleIsNamedByFrame, 48, 40) }
    }
    if plan.hasOwnListAddress {
      // The tables that map the list are among its frames: nobody may map them for writing.
      let tableCount = Self.listTableCount(plan)
      try memory.write(plan.list - tableCount, at: physical(base + 1152))
      try memory.write(plan.listSize + tableCount, at: physical(base + 1160))
    }
    try memory.copy(Array(commandLine.utf8), to: physical(base + (width.isWide ? 128 : 80)))
  }

  /// SIF_MOD_START_PFN.
  private static let moduleIsNamedByFrame: UInt64 = 1 << 3
}
