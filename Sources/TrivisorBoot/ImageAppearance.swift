// What a file that can't be booted looks like, and what to do with it. Numbers and places of signatures are those of
// file(1)'s collection and of the formats' own descriptions.

import TrivisorVMM

/// Recognizes what users give by mistake, or because other monitors take it.
struct ImageAppearance {
  /// The largest floppy: what carries a boot sector's signature and is larger is a disk.
  static let largestFloppy: UInt64 = 1440 << 10
  /// Enough for the last signature that is looked for, btrfs' at 64 KiB.
  static let searchedBytes = 0x1_0048
  static let efiProgram = Array("MZ".utf8)

  private struct Signature {
    let bytes: [UInt8]
    let offset: Int
    let what: String

    init(_ bytes: [UInt8], _ offset: Int, _ what: String) {
      (self.bytes, self.offset, self.what) = (bytes, offset, what)
    }

    init(_ text: String, _ offset: Int, _ what: String) { self.init(Array(text.utf8), offset, what) }
  }

  private static let packed = [
    Signature([0x1f, 0x8b], 0, "gzip"), Signature([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0], 0, "xz"),
    Signature([0x28, 0xb5, 0x2f, 0xfd], 0, "zstd"), Signature("BZh", 0, "bzip2"),
    Signature([0x02, 0x21, 0x4c, 0x18], 0, "lz4"), Signature([0x04, 0x22, 0x4d, 0x18], 0, "lz4"),
    Signature([0x5d, 0, 0], 0, "lzma"), Signature([0x89, 0x4c, 0x5a, 0x4f, 0], 0, "lzop"),
  ]

  private static let fileSystems = [
    Signature("CD001", 0x8001, "an ISO 9660 file system (a CD image)"),
    Signature([0x53, 0xef], 0x438, "an ext4 file system"),
    Signature("hsqs", 0, "a squashfs file system"), Signature("XFSB", 0, "an XFS file system"),
    Signature("_BHRfS_M", 0x1_0040, "a btrfs file system"),
    Signature([0xe2, 0xe1, 0xf5, 0xe0], 0x400, "an EROFS file system"),
    Signature([0x10, 0x20, 0xf5, 0xf2], 0x400, "an F2FS file system"),
    Signature([0x45, 0x3d, 0xcd, 0x28], 0, "a cramfs file system"), Signature("NTFS    ", 3, "an NTFS file system"),
    Signature("LUKS", 0, "an encrypted disk (LUKS)"), Signature("SWAPSPACE2", 0xff6, "a swap partition"),
  ]

  private static let diskFormats = [
    Signature(Array("QFI".utf8) + [0xfb], 0, "qcow2"), Signature("KDMV", 0, "VMDK"), Signature("COWD", 0, "VMDK"),
    Signature("# Disk DescriptorFile", 0, "VMDK"), Signature("conectix", 0, "VHD"), Signature("vhdxfile", 0, "VHDX"),
    Signature([0x7f, 0x10, 0xda, 0xbe], 0x40, "VDI"),
  ]

  private static let otherKernels = [
    Signature([0x41, 0x52, 0x4d, 0x64], 0x38, "a Linux kernel for 64-bit ARM"),
    Signature([0x18, 0x28, 0x6f, 0x01], 0x24, "a Linux kernel for 32-bit ARM"),
    Signature([0x52, 0x53, 0x43, 0x05], 0x38, "a Linux kernel for RISC-V"),
    Signature("RISCV", 0x30, "a Linux kernel for RISC-V"),
    Signature([0x27, 0x05, 0x19, 0x56], 0, "an image for U-Boot"),
    Signature([0xd0, 0x0d, 0xfe, 0xed], 0, "a device tree, or a FIT image for U-Boot"),
    Signature([0xcf, 0xfa, 0xed, 0xfe], 0, "a Mach-O program"),
  ]

  private let image: BootImage
  private let head: ImageBytes

  /// - Parameter head: the image's first `searchedBytes` bytes, where it has as many.
  init(_ image: BootImage, head: ImageBytes) {
    self.image = image
    self.head = head
  }

  /// What it is and what to do.
  var sentence: Sentence {
    let giveAsDisk: Sentence = "give a kernel, and this by \(Setting.disk)"
    let giveKernel: Sentence = "give the kernel that is in it"
    if let packing = match(Self.packed) { return describe(packed: packing) }
    if let archive = Self.archive(head) { return archive }
    if let format = match(Self.diskFormats) {
      return """
        is a disk image of the format \(format), not a kernel: convert it to a raw one (qemu-img convert -O raw), give a \
        kernel, and the raw image by \(Setting.disk)
        """
    }
    if let system = match(Self.fileSystems) { return "is \(system), not a kernel: \(giveAsDisk)" }
    if let other = match(Self.otherKernels) { return "is \(other): give one for i386 or x86-64" }
    if head.holds(Array("!<arch>\n".utf8), at: 0) {
      return "is an archive of object files or a Debian package: \(giveKernel)"
    }
    if head.holds([0xed, 0xab, 0xee, 0xdb], at: 0) { return "is an RPM package: \(giveKernel)" }
    if head.holds(Array("PK\u{3}\u{4}".utf8), at: 0) { return "is a zip archive: \(giveKernel)" }
    if head.holds(Array("#!".utf8), at: 0) { return "is a script: give the kernel that it starts" }
    if head.holds(Self.efiProgram, at: 0) { return windowsProgram }
    if isFirmware {
      return "is a PC's firmware, and a machine here has none and needs none: give the kernel that it would load"
    }
    if head.holds([0x55, 0xaa], at: 510) {
      let table = head.holds(Array("EFI PART".utf8), at: 512) ? "a GUID partition table" : "a boot sector"
      return "is a disk image with \(table), whose boot code needs firmware: \(giveAsDisk)"
    }
    if head.holds(Array("EFI PART".utf8), at: 512) {
      return "is a disk image with a GUID partition table: \(giveAsDisk)"
    }
    if head.holds([0x55, 0xaa], at: 0) { return "is an option ROM, which needs firmware: give a kernel" }
    if Self.hasMultiboot2Header(head) { return Self.multiboot2 }
    if isText { return "is text, not a kernel: give the file that was built from it" }
    let first = head.bytes.prefix(4).map { hexadecimal(UInt64($0), digits: 2) }.joined(separator: " ")
    return """
      is of no known kind (its first bytes are \(first)); set \(Setting.imageKind) if it is one of \(ImageKind.listing)
      """
  }

  private func match(_ signatures: [Signature]) -> String? {
    signatures.first { head.holds($0.bytes, at: $0.offset) }?.what
  }

  // MARK: Archives

  private func describe(packed: String) -> Sentence {
    let inner = CompressionFormat(head).flatMap { format in
      var sink = PrefixSink(image: image.name)
      // Ends with the sink's failure as a rule.
      try? PackedStream(image: image, format: format, offset: 0, length: image.size).unpack(into: &sink)
      return Self.archive(ImageBytes(image: image.name, imageSize: image.size, part: "", offset: 0, bytes: sink.bytes))
    }
    if let inner { return "is compressed (\(packed)), and what is in it \(inner)" }
    return "is compressed (\(packed)): unpack it first"
  }

  private static func archive(_ head: ImageBytes) -> Sentence? {
    if head.holds(Array("070701".utf8), at: 0) || head.holds(Array("070702".utf8), at: 0) {
      return "is a cpio archive, an initial ramdisk but no kernel: give a kernel, and this by \(Setting.initialRamdisk)"
    }
    if head.holds(Array("ustar".utf8), at: 257) {
      return "is a tar archive: unpack it, and give the kernel in it, or the folder by \(Setting.root)"
    }
    return nil
  }

  /// Takes the first bytes of a stream and ends it.
  private struct PrefixSink: DecompressionSink {
    let image: String
    var bytes: [UInt8] = []

    mutating func write(_ more: UnsafeRawBufferPointer) throws(BootFailure) {
      bytes += more.prefix(512 - bytes.count)
      if bytes.count == 512 { throw BootFailure(image, .empty) }
    }
  }

  // MARK: Programs for firmware

  /// By the PE header (Microsoft's "PE Format"): machine and subsystem.
  private var windowsProgram: Sentence {
    let needsFirmware: Sentence = "which needs UEFI firmware: give the kernel that it would load"
    guard let offset = head.value(UInt32.self, at: 0x3c), let position = Int(exactly: offset),
      head.holds(Array("PE\0\0".utf8), at: position), let machine = head.value(UInt16.self, at: position + 4),
      let subsystem = head.value(UInt16.self, at: position + 24 + 68)
    else {
      return """
        is a DOS, Windows or EFI program, or a Linux kernel cut off at its beginning: give a whole kernel for i386 or \
        x86-64
        """
    }
    let processors: [UInt16: String] = [0x014c: "i386", 0x8664: "x86-64", 0xaa64: "64-bit ARM", 0x01c2: "32-bit ARM"]
    let processor = processors[machine] ?? "another processor"
    // EFI's application, boot-service driver and run-time driver.
    guard (10...12).contains(subsystem) else { return "is a Windows program for \(processor): give a kernel" }
    if holdsSection(".linux", header: position) {
      return """
        is a unified kernel image for \(processor), \(needsFirmware) (objcopy -O binary --only-section=.linux takes it out)
        """
    }
    return "is an EFI program for \(processor), \(needsFirmware)"
  }

  private func holdsSection(_ name: String, header: Int) -> Bool {
    guard let count = head.value(UInt16.self, at: header + 6), let size = head.value(UInt16.self, at: header + 20)
    else {
      return false
    }
    let wanted = Array(name.utf8) + [UInt8](repeating: 0, count: max(8 - name.utf8.count, 0))
    return (0..<Int(min(count, 96))).contains { head.holds(wanted, at: header + 24 + Int(size) + 40 * $0) }
  }

  /// A UEFI firmware volume, or a BIOS: whole pages at whose last 16 bytes the processor begins with a jump, before a date.
  private var isFirmware: Bool {
    if head.holds(Array("_FVH".utf8), at: 0x28) { return true }
    guard image.size >= 0x1_0000, image.size <= 16 << 20, image.size % 4096 == 0,
      let end = try? image.read("the reset vector", at: image.size - 16, count: 16)
    else { return false }
    let slash: [UInt8] = [UInt8(ascii: "/")]
    let beginsWithJump = end.holds([0xea], at: 0) || end.holds([0xe9], at: 0)
    return beginsWithJump && end.holds(slash, at: 7) && end.holds(slash, at: 10)
  }

  // MARK: Kernels

  /// The Multiboot2 Specification, 3.1.1: in the first 32 KiB, at a multiple of 8, four words whose sum is zero.
  static func hasMultiboot2Header(_ head: ImageBytes) -> Bool {
    let magic: UInt32 = 0xe852_50d6
    for position in stride(from: 0, to: min(head.count, 32 << 10), by: 8)
    where head.value(UInt32.self, at: position) == magic {
      let rest = (1...3).map { head.value(UInt32.self, at: position + 4 * $0) ?? 0 }
      if rest.reduce(magic, &+) == 0 { return true }
    }
    return false
  }

  static let linuxWithoutPVH: Sentence = "is a Linux kernel without an entry for PVH; \(withPVH)"

  private static let withPVH: Sentence =
    "give the bzImage of the same build (arch/x86/boot/bzImage), or build it with CONFIG_PVH=y"

  /// A kernel that only a paravirtual domain can begin with, where there is to be none.
  static func domainKernel(isLinux: Bool) -> BootFailure.Reason {
    let technique: Sentence = "set \(Setting.technique) to paravirtual"
    return isLinux
      ? .unsupported(
        "is a Linux kernel with an entry for Xen's domains and none for PVH", remedy: "\(technique), \(withPVH)")
      : .unsupported("is a kernel for Xen's paravirtual interface alone", remedy: technique)
  }

  static let multiboot2: Sentence = """
    has a multiboot 2 header, and multiboot 1 is what is done here: give the kernel a multiboot 1 header or a PVH note, \
    or set \(Setting.imageKind) to elf if its entry point needs no loader
    """

  private var isText: Bool {
    head.bytes.prefix(512).allSatisfy { (0x20...0x7e).contains($0) || (0x09...0x0d).contains($0) || $0 >= 0x80 }
      && head.count >= 4 && String(validating: head.bytes.prefix(256).dropLast(4), as: UTF8.self) != nil
  }
}
