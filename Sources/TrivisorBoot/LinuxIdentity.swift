/// What a kernel's headers say before it is loaded.
public struct LinuxIdentity: Sendable, Equatable {
  /// How it is packed.
  public let kind: ImageKind
  /// Whether it is built for 64-bit processors; if not, it runs 32-bit programs alone.
  public let is64Bit: Bool
  /// Its archives lie below this address.
  public let ramdiskLimit: UInt64
}

extension BootRequest {
  /// What the image is: detected unless it was said.
  /// - Throws: `BootFailure` where it is of no known kind.
  public func imageKind() throws(BootFailure) -> ImageKind {
    if let kind { return kind }
    return try ImageKind.detect(image)
  }

  /// What the image is as a Linux kernel, from its headers alone; `nil` where it is something else.
  /// - Throws: `BootFailure` where it is of no known kind, or damaged.
  public func linuxIdentity() throws(BootFailure) -> LinuxIdentity? {
    let kind = try imageKind()
    switch kind {
    case .linux:
      let header = try LinuxSetupHeader(image)
      return LinuxIdentity(kind: kind, is64Bit: header.is64Bit, ramdiskLimit: header.initialRamdiskMaximum + 1)
    case .pvh:
      let header = try ELFHeader(try image.prefix(ELFHeader.maximumSize, as: "the ELF header"))
      let table = try image.read(
        "the program header table", at: header.segmentTableOffset, count: header.segmentTableSize)
      guard try ELFNotes(header.segments(table), of: image).isLinux else { return nil }
      return LinuxIdentity(
        kind: kind, is64Bit: header.elfClass == .elf64, ramdiskLimit: GuestLayout.below4GiB.upperBound)
    case .xen:
      // It has no entry for PVH, or would be taken for that; all else that it says of itself is the same.
      guard let (kernel, isLinux) = try domainKernel(kind), isLinux else { return nil }
      let header = try ELFHeader(try kernel.prefix(ELFHeader.maximumSize, as: "the ELF header"))
      return LinuxIdentity(
        kind: kind, is64Bit: header.elfClass == .elf64, ramdiskLimit: GuestLayout.below4GiB.upperBound)
    default: return nil
    }
  }
}

extension BootRequest {
  /// Which release of Linux it is, such as 6.1.0-56-amd64: the name of its modules' folder; `nil` where it does not say.
  /// - Throws: `BootFailure` where it can't be read.
  public func linuxRelease() throws(BootFailure) -> String? {
    switch try imageKind() {
    case .linux:
      // The version string's place, without the boot sector (Documentation/arch/x86/boot.rst, kernel_version).
      let head = try image.prefix(0x8200)
      let place: UInt16 = head.value(at: 0x20e) ?? 0
      return place == 0 ? nil : Self.release(head.slice(at: Int(place) + 0x200, count: 256) ?? [])
    case .pvh, .xen:
      // linux_banner of init/version.c.
      let banner = Array("Linux version ".utf8)
      let contents = try ImageContents(try image.unpacked() ?? image).bytes
      guard let place = contents.firstIndex(of: banner) else { return nil }
      return Self.release(contents[(place + banner.count)...].prefix(256))
    default: return nil
    }
  }

  private static func release(_ text: some Sequence<UInt8>) -> String? {
    let word = text.prefix { (0x21...0x7e).contains($0) && $0 != UInt8(ascii: "/") }
    return word.isEmpty ? nil : String(decoding: Array(word), as: UTF8.self)
  }
}
