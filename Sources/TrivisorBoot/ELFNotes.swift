// Xen's ELF notes: how a kernel says that it can be entered by PVH, and what it is (Xen's public/elfnote.h).

import TrivisorVMM

/// The notes that booting needs.
struct ELFNotes {
  /// XEN_ELFNOTE_PHYS32_ENTRY: the physical address at which PVH enters in 32-bit protected mode.
  private(set) var physicalEntry: UInt64?
  /// XEN_ELFNOTE_GUEST_OS is "linux", or there are notes of Linux' own (include/linux/elfnote.h): each kernel that can be entered by
  /// PVH and is none for Xen has those of its build.
  private(set) var isLinux = false

  private static let guestOS: UInt32 = 6
  private static let physical32Entry: UInt32 = 18
  /// Kernels have a few hundred bytes of them; a bound for the work that an image can make.
  static let maximumSize: UInt64 = 64 << 10

  /// No notes yet.
  init() {}

  /// Adds the notes of one PT_NOTE segment; what is malformed ends it, as other loaders do.
  mutating func add(_ bytes: [UInt8], alignment: UInt64) {
    let bytes = ImageBytes(image: "", imageSize: 0, part: "", offset: 0, bytes: bytes)
    let padding = alignment == 8 ? 7 : 3
    var position = 0
    while let nameSize = bytes.value(UInt32.self, at: position).map(Int.init),
      let descriptionSize = bytes.value(UInt32.self, at: position + 4).map(Int.init),
      let type = bytes.value(UInt32.self, at: position + 8)
    {
      let description = (position + 12 + nameSize + padding) & ~padding
      guard let name = bytes.slice(at: position + 12, count: nameSize),
        let value = bytes.slice(at: description, count: descriptionSize)
      else { return }
      if name.elementsEqual("Xen\0".utf8) { add(type, value) }
      if name.elementsEqual("Linux\0".utf8) { isLinux = true }
      position = (description + descriptionSize + padding) & ~padding
    }
  }

  private mutating func add(_ type: UInt32, _ value: ArraySlice<UInt8>) {
    switch type {
    case Self.guestOS:
      if value.prefix(while: { $0 != 0 }).elementsEqual("linux".utf8) { isLinux = true }
    case Self.physical32Entry where [1, 2, 4, 8].contains(value.count):
      physicalEntry = value.reversed().reduce(0) { $0 << 8 | UInt64($1) }
    default: break
    }
  }

  /// The notes of a file.
  init(_ segments: [ELFHeader.Segment], of image: BootImage) throws(BootFailure) {
    for segment in segments where segment.type == ELFHeader.Segment.note {
      let size = Int(min(segment.fileSize, Self.maximumSize))
      add(
        try image.read("\(segment.name), notes,", at: segment.fileOffset, count: size).bytes,
        alignment: segment.alignment)
    }
  }

  /// The notes of a file that is no longer there, but whose segments were loaded.
  init(_ segments: [ELFHeader.Segment], loadedIn memory: GuestMemory) {
    for note in segments where note.type == ELFHeader.Segment.note {
      for segment in segments
      where segment.type == ELFHeader.Segment.load && segment.fileOffset <= note.fileOffset
        && note.fileOffset - segment.fileOffset < segment.fileSize
      {
        let offset = note.fileOffset - segment.fileOffset
        let size = min(note.fileSize, segment.fileSize - offset, Self.maximumSize)
        guard let address = GuestPhysicalAddress(segment.physicalAddress).advanced(by: offset),
          let host = memory.host(address, count: size)
        else { continue }
        add(Array(UnsafeRawBufferPointer(start: host, count: Int(size))), alignment: note.alignment)
      }
    }
  }
}
