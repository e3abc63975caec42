// PVH, "x86/HVM direct boot" (Xen's docs/misc/pvh.pandoc and public/arch-x86/hvm/start_info.h): a kernel with the note
// XEN_ELFNOTE_PHYS32_ENTRY begins there in flat 32-bit protected mode, with EBX pointing to
//
//     0 magic 0x336ec578   4 version 1   8 flags   12 module count   16 modules   24 command line   32 RSDP
//    40 memory map        48 entries of it

import TrivisorVMM

/// Enters kernels by their PVH note, whether they come as ELF files or were unpacked.
struct PVHLoader {
  let request: BootRequest

  private static let magic: UInt32 = 0x336e_c578
  private static let taskStateLimit: UInt32 = 0x67

  /// Loads an ELF file.
  func load(_ layout: inout GuestLayout) throws(BootFailure) -> LoadedGuest {
    let placement = try ELFLoader(image: request.image).place(&layout)
    let notes = try ELFNotes(placement.allSegments, of: request.image)
    guard notes.physicalEntry != nil else {
      throw BootFailure(
        request.image.name,
        .notOfKind(.pvh, problem: "it has no note with a 32-bit entry point (XEN_ELFNOTE_PHYS32_ENTRY)"))
    }
    if notes.isLinux, !request.modules.isEmpty {
      throw BootFailure(
        request.image.name,
        .unusable(.module, kind: .pvh, remedy: "give Linux its archives by \(Setting.initialRamdisk)"))
    }
    return try enter(
      kind: .pvh, notes, segments: placement.segments, initialRamdiskLimit: GuestLayout.below4GiB.upperBound,
      commandLine: notes.isLinux ? LinuxCommandLine.combine(request) : request.commandLine,
      commandLineLimit: notes.isLinux ? LinuxCommandLine.usualLimit : Int.max, lines: placement.notes, &layout)
  }

  /// The rest, once the kernel is in memory: what the guest is told, and the processor's state.
  /// - Parameter initialRamdiskLimit: the first address that the initial ramdisk may not touch.
  func enter(
    kind: ImageKind, _ notes: ELFNotes, segments: [ELFHeader.Segment], initialRamdiskLimit: UInt64,
    commandLine: String, commandLineLimit: Int, lines: [String], _ layout: inout GuestLayout
  ) throws(BootFailure) -> LoadedGuest {
    let entry = notes.physicalEntry ?? 0
    let isLoaded = segments.contains { entry >= $0.physicalAddress && entry - $0.physicalAddress < $0.memorySize }
    guard isLoaded, let entry32 = UInt32(exactly: entry) else {
      throw BootFailure(layout.image, .entryOutsideImage(entry: entry))
    }
    var lines = lines + ["entered by PVH at \(hexadecimal(entry))"]
    let ramdisk = try InitialRamdisk.load(
      request.initialRamdisks, in: [GuestLayout.window(from: MemoryMap.extendedBase, to: initialRamdiskLimit)], &layout)
    var modules: [Module] = []
    if let ramdisk {
      modules.append(Module(base: ramdisk.base, size: ramdisk.size, commandLine: 0))
      lines.append(ramdisk.note)
    }
    for module in request.modules {
      modules.append(try load(module, &layout))
    }
    let line = try LinuxCommandLine.store(commandLine, limit: commandLineLimit, &layout)
    lines.append("command line: \(commandLine)")
    var state = EntryState.protectedMode(entry: entry32)
    state.general.rbx = try storeStartInformation(modules, commandLine: line, &layout)
    state.system.task = Segment(selector: 0, base: 0, limit: Self.taskStateLimit, attributes: 0x8b)
    return LoadedGuest(
      kind: kind, general: state.general, system: state.system, memoryMap: layout.map, notes: lines)
  }

  private struct Module {
    let base: UInt64
    let size: UInt64
    let commandLine: UInt64
  }

  private func load(_ module: BootModule, _ layout: inout GuestLayout) throws(BootFailure) -> Module {
    let part = "module \(module.image.name)"
    let base = try layout.place(
      part, size: module.image.size, alignment: 4096, in: [(GuestLayout.below4GiB, .downwards)])
    try module.image.copy(part, at: 0, count: module.image.size, to: base, of: layout.memory)
    let line = try LinuxCommandLine.store(module.commandLine, limit: Int.max, &layout)
    return Module(base: base, size: module.image.size, commandLine: line)
  }

  private func storeStartInformation(
    _ modules: [Module], commandLine: UInt64, _ layout: inout GuestLayout
  ) throws(BootFailure) -> UInt64 {
    let structureSize = 56
    let moduleTable = structureSize
    let mapTable = moduleTable + modules.count * 32
    let size = mapTable + layout.map.entries.count * 24
    let part = "the PVH start information"
    let base = try layout.placeStructure(part, size: UInt64(size), alignment: 64)
    var record = GuestRecord()
    record.append(Self.magic)
    record.append(UInt32(1))
    record.append(UInt32(0))
    record.append(UInt32(clamping: modules.count))
    record.append(modules.isEmpty ? 0 : base &+ UInt64(moduleTable))
    record.append(commandLine)
    record.append(request.rootSystemDescriptionPointer?.rawValue ?? 0)
    record.append(base &+ UInt64(mapTable))
    record.append(UInt32(clamping: layout.map.entries.count))
    record.append(UInt32(0))
    for module in modules {
      record.append(module.base)
      record.append(module.size)
      record.append(module.commandLine)
      record.append(UInt64(0))
    }
    for entry in layout.map.entries {
      record.append(entry.base)
      record.append(entry.size)
      record.append(entry.kind.rawValue)
      record.append(UInt32(0))
    }
    try layout.store(record.bytes, at: base, as: part)
    return base
  }
}
