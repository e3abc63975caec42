// Linux as packaged. A bzImage has two doors:
//
// - as packaged: the protected-mode kernel is loaded where it says and unpacks the real one in the guest, by the 64-bit
//   boot protocol (the 32-bit one for i386 kernels);
// - unpacked here and entered by PVH. The guest then runs none of the unpacking, which is a second of a slow
//   technique's time, and starts where a 32-bit entry note says.
//
// The second is taken where the kernel allows it. Then no setup code runs in the guest, so what it would have found out
// (memory map, ramdisk, command line) comes in PVH's own structure instead of the boot parameters.

import TrivisorVMM

/// Loads a bzImage, packed or unpacked.
struct LinuxLoader {
  let request: BootRequest

  private var image: BootImage { request.image }

  func load(_ layout: inout GuestLayout) throws(BootFailure) -> LoadedGuest {
    let header = try LinuxSetupHeader(image)
    if request.linuxEntry != .bzImage {
      let (guest, obstacle) = try loadUnpacked(header, layout)
      if let guest { return guest }
      if request.linuxEntry == .pvh {
        throw BootFailure(
          image.name,
          .unsupported("can't be entered by PVH: \(obstacle)", remedy: "leave the choice of the entry to Trivisor"))
      }
    }
    return try loadPackaged(header, &layout)
  }

  /// Unpacks the kernel and enters it by PVH.
  /// - Returns: the guest, or why it has to be entered as packaged.
  private func loadUnpacked(
    _ header: LinuxSetupHeader, _ layout: GuestLayout
  ) throws(BootFailure) -> (guest: LoadedGuest?, obstacle: String) {
    guard let payload = header.payload, payload.length > 4 else { return (nil, "there is no packed kernel in it") }
    let head = try image.read("the packed kernel", at: payload.offset, count: Int(min(payload.length, 8)))
    guard let format = CompressionFormat(head) else { return (nil, "it is packed in a way that is not known here") }
    // gzip ends with the unpacked size, and for all others Linux's build puts it there.
    let size: UInt32 = try image.read("the unpacked size", at: payload.offset + payload.length - 4, count: 4)
      .read(at: 0)
    let stream = PackedStream(image: image, format: format, offset: payload.offset, length: payload.length)
    guard
      case .loaded(let kernel) = try UnpackedKernel.unpack(stream, size: UInt64(size), layout: layout)
    else { return (nil, "what is packed in it is no ELF file") }
    let notes = ELFNotes(kernel.segments, loadedIn: layout.memory)
    guard notes.physicalEntry != nil, let elfHeader = kernel.header else {
      return (nil, "it has no entry note for PVH")
    }
    var layout = kernel.layout
    let lines = ["\(format.rawValue)-packed kernel unpacked to \(size) bytes"]
    let guest = try PVHLoader(request: request).enter(
      kind: .linux, notes, segments: kernel.loadSegments, initialRamdiskLimit: header.initialRamdiskMaximum + 1,
      commandLine: LinuxCommandLine.combine(request), commandLineLimit: header.commandLineLimit,
      lines: lines + ELFLoader.notes(elfHeader, kernel.loadSegments, entry: elfHeader.entry), &layout)
    return (guest, "")
  }

  /// Enters the kernel as it is packaged.
  private func loadPackaged(
    _ header: LinuxSetupHeader, _ layout: inout GuestLayout
  ) throws(BootFailure) -> LoadedGuest {
    let base = try placeKernel(header, &layout)
    try image.copy("the kernel", at: header.kernelOffset, count: header.kernelSize, to: base, of: layout.memory)
    var windows = [GuestLayout.window(from: MemoryMap.extendedBase, to: header.initialRamdiskMaximum + 1)]
    if header.takesRamdiskAbove4GiB, let end = layout.memory.regions.last?.end, end > GuestMemory.highBase {
      windows.append(GuestMemory.highBase..<end)
    }
    let ramdisk = try InitialRamdisk.load(request.initialRamdisks, in: windows, &layout)
    let text = LinuxCommandLine.combine(request)
    let commandLine = try LinuxCommandLine.store(text, limit: header.commandLineLimit, &layout)
    let parameters = try BootParameters(
      header: header, kernel: base, commandLine: commandLine, ramdisk: ramdisk,
      rootSystemDescriptionPointer: request.rootSystemDescriptionPointer, randomSeed: request.randomSeed
    ).store(&layout)
    let descriptors = try BootDescriptors.store(&layout, longMode: header.is64Bit)
    var state: EntryState
    let entry: UInt64
    if header.is64Bit {
      entry = base + Self.entry64Offset
      state = .longMode(entry: entry, pageTables: try IdentityPageTables.store(&layout), descriptors: descriptors)
    } else {
      entry = base
      state = .protectedMode(entry: UInt32(truncatingIfNeeded: entry))
      state.system.gdt = descriptors
    }
    state.general.rsi = parameters
    var lines = [
      "bzImage, boot protocol \(header.protocolVersion >> 8).\(header.protocolVersion & 0xff), loaded at "
        + "\(hexadecimal(base)), entered in \(header.is64Bit ? 64 : 32)-bit mode at \(hexadecimal(entry))"
    ]
    if let ramdisk { lines.append(ramdisk.note) }
    lines.append("command line: \(text)")
    return LoadedGuest(
      kind: .linux, general: state.general, system: state.system, memoryMap: layout.map, notes: lines)
  }

  private static let entry64Offset: UInt64 = 0x200

  /// Where the protected-mode kernel goes: where it would like to, or above that if it can be moved.
  private func placeKernel(_ header: LinuxSetupHeader, _ layout: inout GuestLayout) throws(BootFailure) -> UInt64 {
    let part = "the kernel"
    let preferred = header.preferredAddress
    let end = preferred.addingReportingOverflow(header.initialSize)
    if !end.overflow, end.partialValue <= GuestLayout.below4GiB.upperBound,
      layout.map.isUsable(from: preferred, to: end.partialValue)
    {
      try layout.claim(preferred, size: header.initialSize, for: part)
      return preferred
    }
    guard header.isRelocatable else {
      throw BootFailure(image.name, .outsideMemory(part: part, base: preferred, size: header.initialSize))
    }
    let window = GuestLayout.window(
      from: max(preferred, MemoryMap.extendedBase), to: GuestLayout.below4GiB.upperBound)
    return try layout.place(
      part, size: header.initialSize, alignment: header.alignment, in: [(window, .upwards)])
  }
}
