// The setup header of a bzImage (Linux's Documentation/arch/x86/boot.rst). A bzImage is
//
//     0 ──────── 0x1f1 ─────── ~0x26c ─── (setup_sects + 1) * 512 ─────────── + syssize * 16
//     boot sector  setup header   real-mode code  protected-mode kernel, which unpacks the packed one in it
//
// From Linux 2.6.31 (protocol 2.10) on, the header says where the kernel wants to run and how much memory it needs
// there; older ones are not booted.

import TrivisorVMM

/// What a bzImage says about itself, checked.
struct LinuxSetupHeader {
  /// Where the header begins, in the image and in the boot parameters.
  static let offset = 0x1f1
  /// The boot parameters have no room for a header beyond this.
  static let maximumEnd = 0x290
  private static let magic = Array("HdrS".utf8)
  private static let oldestProtocol: UInt16 = 0x020a

  private enum LoadFlags {
    static let loadedHigh: UInt8 = 1 << 0
  }
  private enum ExtendedLoadFlags {
    static let kernel64: UInt16 = 1 << 0
    static let above4GiB: UInt16 = 1 << 1
  }

  /// The header's own bytes, for the boot parameters.
  let bytes: [UInt8]
  /// 0x20f is version 2.15.
  let protocolVersion: UInt16
  /// Where the protected-mode kernel begins in the image.
  let kernelOffset: UInt64
  let kernelSize: UInt64
  /// It has the 64-bit entry point, at 0x200.
  let is64Bit: Bool
  /// The initial ramdisk may lie above 4 GiB.
  let takesRamdiskAbove4GiB: Bool
  let isRelocatable: Bool
  let alignment: UInt64
  let preferredAddress: UInt64
  /// Memory that the kernel needs from its load address on before it reads the memory map.
  let initialSize: UInt64
  /// The last address that the initial ramdisk may occupy.
  let initialRamdiskMaximum: UInt64
  /// Without the closing zero byte.
  let commandLineLimit: Int
  /// The packed kernel within the protected-mode kernel; `nil` where there is none.
  let payload: (offset: UInt64, length: UInt64)?

  /// Programs that are no Linux are made to look like an old one, because every boot loader takes that. Linux' version
  /// string begins with its number.
  private static func tooOld(_ version: UInt16, _ image: BootImage) throws(BootFailure) -> BootFailure.Reason {
    let number = "\(version >> 8).\(version & 0xff)"
    let head = try image.prefix(0x8200)
    let place: UInt16 = head.value(at: 0x20e) ?? 0
    let text = (head.slice(at: Int(place) + 0x200, count: 64) ?? []).prefix { (0x20...0x7e).contains($0) }
    let name = String(decoding: text, as: UTF8.self)
    if place > 0, name.hasPrefix("2.") {
      return .unsupported(
        "is Linux \(name.prefix { $0 != " " }), whose boot protocol \(number) is older than 2.10",
        remedy: "give a kernel of Linux 2.6.31 or later")
    }
    let what = place > 0 && !name.isEmpty ? "calls itself \(name)" : "is a program of another kind"
    return .unsupported(
      "\(what) and has the header of a Linux kernel with boot protocol \(number): boot loaders such as iPXE and MEMDISK "
        + "have it, and need a BIOS",
      remedy: "give the kernel that it would load; one of Linux must be 2.6.31 or later")
  }

  init(_ image: BootImage) throws(BootFailure) {
    let part = "the Linux setup header"
    let head = try image.prefix(Self.maximumEnd, as: part)
    guard head.holds(Self.magic, at: 0x202), head.holds([0x55, 0xaa], at: 0x1fe) else {
      throw head.failure(.notOfKind(.linux, problem: "it has no setup header (HdrS at 0x202, 55 aa at 0x1fe)"))
    }
    protocolVersion = try head.read(at: 0x206)
    guard protocolVersion >= Self.oldestProtocol else {
      throw head.failure(try Self.tooOld(protocolVersion, image))
    }
    // The header's end is where its jump instruction goes.
    let end = 0x202 + Int(try head.read(UInt8.self, at: 0x201))
    guard end >= 0x264 else { throw head.malformed("ends at \(hexadecimal(UInt64(end))), before its own fields") }
    guard let bytes = head.slice(at: Self.offset, count: min(end, Self.maximumEnd) - Self.offset) else {
      throw head.failure(
        .truncated(
          part: part, offset: UInt64(Self.offset), size: UInt64(end - Self.offset), imageSize: image.size))
    }
    self.bytes = Array(bytes)
    guard try head.read(UInt8.self, at: 0x211) & LoadFlags.loadedHigh != 0 else {
      throw head.failure(.unsupported("is a zImage, which loads below 1 MiB", remedy: "build it as bzImage"))
    }
    let setupSectors = try head.read(UInt8.self, at: 0x1f1)
    kernelOffset = (UInt64(setupSectors == 0 ? 4 : setupSectors) + 1) * 512
    let announced = UInt64(try head.read(UInt32.self, at: 0x1f4)) * 16
    guard announced > 0 else { throw head.malformed("says that there is no protected-mode kernel") }
    // The size is rounded up to 16; what lies behind it is a signature.
    let available = image.size - min(image.size, kernelOffset)
    guard available > 0, available + 15 >= announced else {
      throw head.failure(
        .truncated(part: "the protected-mode kernel", offset: kernelOffset, size: announced, imageSize: image.size))
    }
    kernelSize = min(announced, available)
    let extendedFlags: UInt16 = protocolVersion >= 0x020c ? try head.read(at: 0x236) : 0
    is64Bit = extendedFlags & ExtendedLoadFlags.kernel64 != 0
    takesRamdiskAbove4GiB = is64Bit && extendedFlags & ExtendedLoadFlags.above4GiB != 0
    isRelocatable = try head.read(UInt8.self, at: 0x234) != 0
    let alignment: UInt32 = try head.read(at: 0x230)
    guard !isRelocatable || (alignment > 0 && alignment & (alignment - 1) == 0) else {
      throw head.malformed("says an alignment of \(alignment), which is no power of two")
    }
    self.alignment = isRelocatable ? max(UInt64(alignment), GuestMemory.pageSize) : GuestMemory.pageSize
    preferredAddress = try head.read(at: 0x258)
    initialSize = max(UInt64(try head.read(UInt32.self, at: 0x260)), kernelSize)
    initialRamdiskMaximum = UInt64(try head.read(UInt32.self, at: 0x22c))
    commandLineLimit = Int(try head.read(UInt32.self, at: 0x238))
    let length = UInt64(try head.read(UInt32.self, at: 0x24c))
    let offset = UInt64(try head.read(UInt32.self, at: 0x248))
    if length == 0 {
      payload = nil
    } else {
      guard offset <= kernelSize, length <= kernelSize - offset else {
        throw head.malformed(
          "puts the packed kernel (\(length) bytes at \(hexadecimal(offset))) outside the protected-mode kernel")
      }
      payload = (kernelOffset + offset, length)
    }
  }
}
