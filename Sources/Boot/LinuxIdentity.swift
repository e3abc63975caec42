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
    default: return nil
    }
  }
}
