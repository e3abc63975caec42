// Telling images apart by their bytes. What could be several kinds is taken for the one that says most about how it
// wants to start: a multiboot header, a PVH note or a Linux setup header before plain ELF and a boot sector's
// signature.

import TrivisorVMM

extension ImageKind {
  /// What the image is.
  /// - Throws: `BootFailure` that tells what was found instead of a known kind.
  public static func detect(_ image: BootImage) throws(BootFailure) -> ImageKind {
    let head = try image.prefix(ImageAppearance.searchedBytes)
    if head.holds(ELFHeader.magic, at: 0) {
      if MultibootHeader.offset(in: head) != nil { return .multiboot }
      let header = try ELFHeader(try image.prefix(ELFHeader.maximumSize, as: "the ELF header"))
      let table = try image.read(
        "the program header table", at: header.segmentTableOffset, count: header.segmentTableSize)
      // A kernel with both kinds of note, as Linux has them, runs anywhere by the first.
      let notes = try ELFNotes(header.segments(table), of: image)
      if notes.physicalEntry != nil { return .pvh }
      if (try? XenNotes.find(image)) != nil { return .xen }
      // Linux' entry point wants what its own first stage leaves in memory.
      if notes.isLinux { throw BootFailure(image.name, .unknownKind(found: ImageAppearance.linuxWithoutPVH)) }
      // Entered at its entry point it would look in vain for what such a loader leaves in registers.
      if ImageAppearance.hasMultiboot2Header(head) {
        throw BootFailure(image.name, .unknownKind(found: ImageAppearance.multiboot2))
      }
      return .elf
    }
    // Xen's tools take a kernel packed as a file; nobody else's do.
    if CompressionFormat(head) != nil, let unpacked = try? image.unpacked(),
      (try? XenNotes.find(unpacked)) != nil
    {
      return .xen
    }
    if head.holds(Array("HdrS".utf8), at: 0x202) { return .linux }
    if MultibootHeader.offset(in: head) != nil { return .multiboot }
    // A Linux kernel begins as an EFI program and a boot sector at once; cut off before its own signature it is neither.
    if head.holds([0x55, 0xaa], at: 510), image.size <= ImageAppearance.largestFloppy,
      !head.holds(ImageAppearance.efiProgram, at: 0)
    {
      return .flat16
    }
    throw BootFailure(image.name, .unknownKind(found: ImageAppearance(image, head: head).sentence))
  }
}
