// Telling images apart by their bytes. What could be several kinds is taken for the one that says most about how it
// wants to start: a multiboot header, a PVH note or a Linux setup header before plain ELF and a boot sector's
// signature.

import VMM

extension ImageKind {
  /// The largest floppy: what carries a boot sector's signature and is larger is a disk.
  private static let largestFloppy: UInt64 = 1440 << 10

  private static let efiProgram = Array("MZ".utf8)

  /// What the image is.
  /// - Throws: `BootFailure` that tells what was found instead of a known kind.
  static func detect(_ image: BootImage) throws(BootFailure) -> ImageKind {
    // Enough for the last signature that is looked for, ISO 9660's at 0x8001.
    let head = try image.prefix(0x8006)
    if head.holds(ELFHeader.magic, at: 0) {
      if MultibootHeader.offset(in: head) != nil { return .multiboot }
      let header = try ELFHeader(try image.prefix(ELFHeader.maximumSize, as: "the ELF header"))
      let table = try image.read(
        "the program header table", at: header.segmentTableOffset, count: header.segmentTableSize)
      // A kernel with both kinds of note, as Linux has them, runs anywhere by the first.
      if try ELFNotes(header.segments(table), of: image).physicalEntry != nil { return .pvh }
      return (try? XenNotes.find(image)) != nil ? .xen : .elf
    }
    let hasBootSignature = head.holds([0x55, 0xaa], at: 510)
    if head.holds(Array("HdrS".utf8), at: 0x202) { return .linux }
    if MultibootHeader.offset(in: head) != nil { return .multiboot }
    // A Linux kernel begins as an EFI program and a boot sector at once; cut off before its own signature it is neither.
    if hasBootSignature, image.size <= largestFloppy, !head.holds(efiProgram, at: 0) { return .flat16 }
    throw BootFailure(image.name, .unknownKind(found: appearance(head, hasBootSignature: hasBootSignature)))
  }

  private static func appearance(_ head: ImageBytes, hasBootSignature: Bool) -> String {
    let known: [(signature: [UInt8], offset: Int, what: String)] = [
      ([0x1f, 0x8b], 0, "is gzip-compressed: unpack it first"),
      ([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0], 0, "is xz-compressed: unpack it first"),
      ([0x28, 0xb5, 0x2f, 0xfd], 0, "is zstd-compressed: unpack it first"),
      ([0x42, 0x5a, 0x68], 0, "is bzip2-compressed: unpack it first"),
      ([0x02, 0x21, 0x4c, 0x18], 0, "is lz4-compressed: unpack it first"),
      ([0x04, 0x22, 0x4d, 0x18], 0, "is lz4-compressed: unpack it first"),
      (Array("070701".utf8), 0, "is a cpio archive, an initrd but no kernel"),
      (Array("070702".utf8), 0, "is a cpio archive, an initrd but no kernel"),
      (Array("QFI".utf8) + [0xfb], 0, "is a qcow2 disk image, not a kernel"),
      (Array("CD001".utf8), 0x8001, "is an ISO 9660 image, which needs firmware: give the kernel that is in it"),
      (Array("!<arch>\n".utf8), 0, "is an archive of object files or a Debian package: give the kernel that is in it"),
      (Array("#!".utf8), 0, "is a script"),
      (efiProgram, 0, "is an EFI or Windows program, which needs firmware, or a Linux kernel cut off at its beginning"),
    ]
    if let match = known.first(where: { head.holds($0.signature, at: $0.offset) }) { return match.what }
    if hasBootSignature { return "looks like a disk image with a boot sector, which needs firmware" }
    for position in stride(from: 0, to: head.count, by: 8) where head.value(UInt32.self, at: position) == 0xe852_50d6 {
      return "has a multiboot 2 header, and multiboot 1 is what is done here"
    }
    let first = head.bytes.prefix(4).map { hexadecimal(UInt64($0), digits: 2) }.joined(separator: " ")
    return "is of no known kind (its first bytes are \(first))"
  }
}
