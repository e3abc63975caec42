// ELF executables by their entry point: each PT_LOAD segment goes to its physical address (p_paddr), what it has in
// memory beyond the file is zero, and the class decides the mode. Kernels linked to run at high virtual addresses say
// an entry point there; the segment that holds it tells the physical address.

import TrivisorVMM

/// Loads ELF32 (i386) and ELF64 (x86-64) executables.
struct ELFLoader {
  let image: BootImage

  /// Where the segments went.
  struct Placement {
    let header: ELFHeader
    /// All program headers, in the table's order.
    let allSegments: [ELFHeader.Segment]
    /// What was loaded.
    let segments: [ELFHeader.Segment]
    /// The physical address of the entry point.
    let entry: UInt64
    let notes: [String]
  }

  func load(_ layout: inout GuestLayout) throws(BootFailure) -> LoadedGuest {
    let placement = try place(&layout)
    let state = try EntryState.withStack(
      entry: placement.entry, longMode: placement.header.elfClass == .elf64, &layout)
    return LoadedGuest(
      kind: .elf, general: state.general, system: state.system, memoryMap: layout.map, notes: placement.notes)
  }

  /// Loads the segments and finds the entry point.
  func place(_ layout: inout GuestLayout) throws(BootFailure) -> Placement {
    let header = try ELFHeader(try image.prefix(ELFHeader.maximumSize, as: "the ELF header"))
    let table = try image.read(
      "the program header table", at: header.segmentTableOffset, count: header.segmentTableSize)
    let allSegments = try header.segments(table)
    let segments = allSegments.filter { $0.type == ELFHeader.Segment.load && $0.memorySize > 0 }
    try Self.claim(segments, &layout)
    for segment in segments {
      try image.copy(
        segment.name, at: segment.fileOffset, count: segment.fileSize, to: segment.physicalAddress, of: layout.memory)
      try layout.clear(
        segment.physicalAddress &+ segment.fileSize, size: segment.memorySize - segment.fileSize, as: segment.name)
    }
    let entry = try Self.physicalEntry(header.entry, segments, image: image.name)
    return Placement(
      header: header, allSegments: allSegments, segments: segments, entry: entry,
      notes: Self.notes(header, segments, entry: entry))
  }

  /// Takes the segments' memory.
  /// - Throws: `BootFailure` when one leaves RAM, wraps, overlaps another, or has more in the file than in memory.
  static func claim(_ segments: [ELFHeader.Segment], _ layout: inout GuestLayout) throws(BootFailure) {
    guard !segments.isEmpty else {
      throw BootFailure(
        layout.image, .malformed(part: "the program header table", problem: "names nothing to load (no PT_LOAD)"))
    }
    for segment in segments {
      guard segment.fileSize <= segment.memorySize else {
        throw BootFailure(
          layout.image,
          .malformed(
            part: segment.name,
            problem: "has \(segment.fileSize) bytes in the file and only \(segment.memorySize) in memory"))
      }
      try layout.claim(segment.physicalAddress, size: segment.memorySize, for: segment.name)
    }
  }

  /// The entry point as a physical address: ELF says it is a virtual one, but kernels that start without paging often
  /// name the physical one.
  static func physicalEntry(
    _ entry: UInt64, _ segments: [ELFHeader.Segment], image: String
  ) throws(BootFailure) -> UInt64 {
    for segment in segments where entry >= segment.virtualAddress {
      let offset = entry - segment.virtualAddress
      if offset < segment.memorySize { return segment.physicalAddress &+ offset }
    }
    for segment in segments where entry >= segment.physicalAddress {
      if entry - segment.physicalAddress < segment.memorySize { return entry }
    }
    throw BootFailure(image, .entryOutsideImage(entry: entry))
  }

  static func notes(_ header: ELFHeader, _ segments: [ELFHeader.Segment], entry: UInt64) -> [String] {
    let bits = header.elfClass == .elf32 ? "32" : "64"
    var notes = ["ELF\(bits), entry \(hexadecimal(entry))"]
    for segment in segments {
      notes.append(
        "\(segment.name): \(segment.memorySize) bytes at \(hexadecimal(segment.physicalAddress)), "
          + "\(segment.fileSize) of them from the file")
    }
    return notes
  }
}
