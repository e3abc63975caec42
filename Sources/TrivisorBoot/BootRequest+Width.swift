import TrivisorVMM

extension BootRequest {
  /// Whether the image is for 32-bit processors, as far as its headers say; a program that changes to 64-bit mode by itself
  /// may be in a 32-bit file.
  public var isFor32BitProcessors: Bool {
    guard let kind = try? imageKind() else { return false }
    switch kind {
    case .flat16, .flat32: return true
    case .flat64: return false
    case .linux: return (try? linuxIdentity()).flatMap { $0?.is64Bit } == false
    case .elf, .multiboot, .pvh, .xen:
      let unpacked = kind == .xen ? (try? image.unpacked()).flatMap { $0 } ?? image : image
      guard let head = try? unpacked.prefix(ELFHeader.maximumSize, as: "the ELF header"),
        let header = try? ELFHeader(head)
      else { return false }
      return header.elfClass == .elf32
    }
  }
}
