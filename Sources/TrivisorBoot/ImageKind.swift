/// What an image is, and by which rules it starts. The raw values are what users type.
public enum ImageKind: String, Sendable, CaseIterable, Hashable {
  /// Bytes that begin in real mode, as a boot sector does.
  case flat16
  /// Bytes that begin in 32-bit protected mode without paging.
  case flat32
  /// Bytes that begin in 64-bit mode on identity page tables.
  case flat64
  /// An ELF executable for i386 or x86-64, entered at its entry point in 32- or 64-bit mode.
  case elf
  /// A kernel with a multiboot 1 header.
  case multiboot
  /// An ELF kernel with Xen's note for PVH: a Linux `vmlinux`, for example.
  case pvh
  /// A Linux kernel as packaged (bzImage).
  case linux
  /// A kernel for Xen's paravirtual interface: an ELF executable with Xen's notes.
  case xen

  /// All raw values, for messages.
  static var listing: String { allCases.map(\.rawValue).joined(separator: ", ") }
}
