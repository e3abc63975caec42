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

import VMM

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

  /// Where the pieces are, in pseudo-physical frames.
  private struct Plan {
    let base: UInt64
    let list, startInfo, store, console, tables, stack: UInt64
    let tableCount: UInt64
    /// Pages mapped from `base` on.
    let mapped: UInt64

    func address(_ frame: UInt64) -> UInt64 { base &+ frame &* XenDomainLoader.pageSize }
  }

  func load(into memory: GuestMemory) throws(BootFailure) -> LoadedGuest {
    guard commandLine.utf8.count <= Self.maximumCommandLine else {
      throw failure(.commandLineTooLong(count: commandLine.utf8.count, limit: Self.maximumCommandLine))
    }
    guard let notes = try XenNotes.find(image) else {
      throw failure(.notOfKind(.xen, problem: "it has no Xen notes that name a loader"))
    }
    let header = try ELFHeader(try image.prefix(ELFHeader.maximumSize, as: "the ELF header"))
    let width = Width(isWide: header.elfClass == .elf64)
    let base = notes.virtualBase ?? 0
    guard base % Self.pageSize == 0 else {
      throw failure(.malformed(part: "the note VIRT_BASE", problem: "is not the address of a page"))
    }
    guard !width.isWide || base < Self.upperHalf else {
      throw failure(
        .unsupported(
          "is a Xen kernel for the upper half of the address space (VIRT_BASE \(hexadecimal(base))), of which a process of"
            + " the host has nothing",
          remedy:
            "link it below \(hexadecimal(Self.upperHalf)), or set \(Setting.technique) to another one if the kernel"
            + " runs on a PC, too"))
    }
    let end = try place(header, notes, memory)
    let plan = try plan(base: base, kernelEnd: end, width, memory)
    do throws(GuestMemoryFault) {
      try writePageTables(plan, width, memory)
      try writeStartInfo(plan, width, memory)
      for frame in 0..<XenMachine.domainFrameCount(memory) {
        let place = physical(plan.list &* Self.pageSize &+ frame &* width.word)
        if width.isWide {
          try memory.write(XenMachine.firstFrame + frame, at: place)
        } else {
          try memory.write(UInt32(truncatingIfNeeded: XenMachine.firstFrame + frame), at: place)
        }
      }
      if let page = notes.hypercallPage { try writeHypercallPage(page &- base, width, memory) }
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
      ])
  }

  private func failure(_ reason: BootFailure.Reason) -> BootFailure { BootFailure(image.name, reason) }

  private func physical(_ address: UInt64) -> GuestPhysicalAddress { GuestPhysicalAddress(address) }

  /// Copies the segments.
  /// - Returns: where the last one ends, in pseudo-physical memory.
  private func place(_ header: ELFHeader, _ notes: XenNotes, _ memory: GuestMemory) throws(BootFailure) -> UInt64 {
    let table = try image.read(
      "the program header table", at: header.segmentTableOffset, count: header.segmentTableSize)
    var taken: [Range<UInt64>] = []
    for segment in try header.segments(table) where segment.type == ELFHeader.Segment.load && segment.memorySize > 0 {
      let place = segment.physicalAddress.subtractingReportingOverflow(notes.physicalOffset ?? 0)
      let end = place.partialValue.addingReportingOverflow(segment.memorySize)
      let limit = min(memory.regions[0].size, XenMachine.domainFrameCount(memory) * Self.pageSize)
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
    return end
  }

  private func plan(
    base: UInt64, kernelEnd: UInt64, _ width: Width, _ memory: GuestMemory
  ) throws(BootFailure) -> Plan {
    let frames = XenMachine.domainFrameCount(memory)
    let list = (kernelEnd + Self.pageSize - 1) / Self.pageSize
    let startInfo = list + (frames * width.word + Self.pageSize - 1) / Self.pageSize
    let tables = startInfo + 3
    var count: UInt64 = 4
    while true {
      let needed = (tables + count + 1) * Self.pageSize + Self.slack
      let end = base.addingReportingOverflow(needed + Self.rounding)
      guard !end.overflow, !(base..<end.partialValue).overlaps(Self.reserved),
        width.isWide || end.partialValue <= Self.limit32
      else {
        throw failure(.wraps(part: "the domain's initial mapping", base: base, size: needed))
      }
      let last = (base + needed + Self.rounding - 1) / Self.rounding * Self.rounding - 1
      let wanted = width.shifts.reduce(1) { $0 + (last >> $1) - (base >> $1) + 1 }
      if wanted == count {
        let mapped = min((last + 1 - base) / Self.pageSize, frames)
        guard tables + count < mapped else {
          throw failure(.noRoom(part: "the domain's page tables", size: needed, below: memory.size))
        }
        return Plan(
          base: base, list: list, startInfo: startInfo, store: startInfo + 1, console: startInfo + 2, tables: tables,
          stack: tables + count, tableCount: count, mapped: mapped)
      }
      count = wanted
    }
  }

  /// The root first, then the tables of each level in ascending order of address.
  private func writePageTables(
    _ plan: Plan, _ width: Width, _ memory: GuestMemory
  ) throws(GuestMemoryFault) {
    // Present, writable, user, accessed, dirty.
    let flags: UInt64 = 0x67
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
        let rights = isRoot && !width.isWide ? 1 : flags
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
        (XenMachine.firstFrame + page) << 12 | (tables.contains(page) ? flags & ~writable : flags),
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
    try put(plan.address(plan.list), 104, 68)
    try memory.copy(Array(commandLine.utf8), to: physical(base + (width.isWide ? 128 : 80)))
  }

  /// One call in each 32 bytes: rcx and r11, which SYSCALL changes, are kept; `iret` does not come back, and its frame
  /// has rax, too.
  private func writeHypercallPage(
    _ offset: UInt64, _ width: Width, _ memory: GuestMemory
  ) throws(GuestMemoryFault) {
    let iret: UInt8 = 23
    for number in 0..<128 as Range<UInt8> {
      guard width.isWide else {
        // MOV EAX, number; INT 82h; RET
        let code: [UInt8] = (number == iret ? [0x50] : []) + [0xb8, number, 0, 0, 0, 0xcd, 0x82, 0xc3]
        try memory.copy(code, to: physical(offset &+ UInt64(number) &* 32))
        continue
      }
      var code: [UInt8] = [0x51, 0x41, 0x53]
      if number == iret { code.append(0x50) }
      code += [0xb8, number, 0, 0, 0, 0x0f, 0x05]
      if number != iret { code += [0x41, 0x5b, 0x59, 0xc3] }
      try memory.copy(code, to: physical(offset &+ UInt64(number) &* 32))
    }
    guard width.isWide else { return }
    // JMP to where there is room.
    try memory.copy([0xe9, 0x5b, 0x09, 0, 0], to: physical(offset &+ UInt64(Self.setSegmentBase) &* 32))
    try memory.copy(Self.segmentBaseCode, to: physical(offset &+ 100 * 32))
  }

  private static let setSegmentBase: UInt8 = 25

  /// set_segment_base without the monitor: for FS (0) and the kernel's GS (2) it is one instruction, which every program
  /// may execute where the host lets it; for an address of the upper half, and all else, the call is made.
  private static let segmentBaseCode: [UInt8] = [
    0x85, 0xff,  // test %edi, %edi
    0x74, 0x16,  // je fs
    0x83, 0xff, 0x02,  // cmp $2, %edi
    0x75, 0x22,  // jne call
    0x48, 0x89, 0xf0,  // mov %rsi, %rax
    0x48, 0xc1, 0xe8, 0x2f,  // shr $47, %rax
    0x75, 0x19,  // jne call
    0xf3, 0x48, 0x0f, 0xae, 0xde,  // wrgsbase %rsi
    0x31, 0xc0, 0xc3,  // xor %eax, %eax; ret
    0x48, 0x89, 0xf0,  // fs: mov %rsi, %rax
    0x48, 0xc1, 0xe8, 0x2f,  // shr $47, %rax
    0x75, 0x08,  // jne call
    0xf3, 0x48, 0x0f, 0xae, 0xd6,  // wrfsbase %rsi
    0x31, 0xc0, 0xc3,  // xor %eax, %eax; ret
    // call: as the others
    0x51, 0x41, 0x53, 0xb8, setSegmentBase, 0, 0, 0, 0x0f, 0x05, 0x41, 0x5b, 0x59, 0xc3,
  ]
}
