// The header by which a kernel says that it wants to be booted by the Multiboot Specification, version 0.6.96, 3.1: in
// the image's first 8192 bytes, at a multiple of 4, three words whose sum is zero, then what the flags announce.

import TrivisorVMM

/// A multiboot 1 header.
struct MultibootHeader {
  /// Where the image goes, for images that are not ELF or do not want to be loaded as such.
  struct Addresses {
    /// Where the header itself goes, which ties file offsets to addresses.
    let header: UInt32
    let load: UInt32
    /// 0: to the end of the file.
    let loadEnd: UInt32
    /// 0: no BSS.
    let bssEnd: UInt32
    let entry: UInt32
  }

  static let magic: UInt32 = 0x1bad_b002
  static let searchedBytes = 8192

  /// Where it stands in the image.
  let offset: Int
  let addresses: Addresses?

  /// Modules on page boundaries: ours always are.
  private static let alignedModules: UInt32 = 1 << 0
  private static let memoryInformation: UInt32 = 1 << 1
  private static let videoMode: UInt32 = 1 << 2
  private static let hasAddresses: UInt32 = 1 << 16
  /// A loader that does not understand one of these must not boot the image.
  private static let required: UInt32 = 0xffff

  /// Where a header with a correct checksum stands, if there is one.
  static func offset(in head: ImageBytes) -> Int? {
    let end = min(head.count, searchedBytes)
    return head.bytes.withUnsafeBytes { bytes in
      var position = 0
      while position + 12 <= end {
        let magic = UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: position, as: UInt32.self))
        if magic == Self.magic {
          let flags = UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: position + 4, as: UInt32.self))
          let checksum = UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: position + 8, as: UInt32.self))
          if magic &+ flags &+ checksum == 0 { return position }
        }
        position += 4
      }
      return nil
    }
  }

  /// - Parameter head: the image's first `searchedBytes` bytes, where it has as many.
  /// - Throws: `BootFailure` when there is none, or it requires what is not done here.
  init(_ head: ImageBytes) throws(BootFailure) {
    guard let offset = Self.offset(in: head) else {
      throw head.failure(
        .notOfKind(
          .multiboot,
          problem:
            "there is no header with a correct checksum at a multiple of 4 in its first \(Self.searchedBytes) bytes"
        ))
    }
    self.offset = offset
    let flags: UInt32 = try head.read(at: offset + 4)
    guard flags & Self.videoMode == 0 else {
      throw head.failure(
        .unsupported(
          "its multiboot header requires a video mode, and there is no display",
          remedy: "build the kernel without it (flag bit 2)"))
    }
    let unknown = flags & Self.required & ~(Self.alignedModules | Self.memoryInformation)
    guard unknown == 0 else {
      throw head.failure(
        .unsupported(
          "its multiboot header requires features that are not known (flags \(hexadecimal(UInt64(unknown))))",
          remedy: "build the kernel without them"))
    }
    guard flags & Self.hasAddresses != 0 else {
      addresses = nil
      return
    }
    addresses = Addresses(
      header: try head.read(at: offset + 12), load: try head.read(at: offset + 16),
      loadEnd: try head.read(at: offset + 20), bssEnd: try head.read(at: offset + 24),
      entry: try head.read(at: offset + 28))
  }
}
