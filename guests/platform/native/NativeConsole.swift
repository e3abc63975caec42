// Speaking and ending with port I/O: the first serial port and QEMU's debug exit, both as every small kernel expects
// them. This file alone is also the platform of the 32-bit guest.

import CNative

private let serialPort: UInt16 = 0x3f8
private let lineStatusPort: UInt16 = serialPort + 5
private let transmitterEmpty: UInt8 = 1 << 5
private let debugExitPort: UInt16 = 0xf4
private let longestText = 4096

extension Platform {
  static func write(_ byte: UInt8) {
    while native_inb(lineStatusPort) & transmitterEmpty == 0 { native_pause() }
    native_outb(serialPort, byte)
  }

  /// Under a machine without debug exit the processor stays halted.
  static func exit(_ code: UInt8) -> Never {
    native_outb(debugExitPort, code)
    halt()
  }

  static func halt() -> Never {
    while true {
      native_cli()
      native_hlt()
    }
  }

  static var commandLine: UnsafeBufferPointer<UInt8> {
    // Multiboot 1: EBX points at the information; bit 2 of its flags announces a command line at 16, bit 9 the loader's
    // name at 64. PVH: EBX points at hvm_start_info, whose 64-bit command line address is at 24.
    let information = UInt(native_boot_registers.ebx)
    switch native_boot_registers.eax {
    case 0x2BAD_B002:
      let flags = doubleword(at: information)
      guard flags & 1 << 2 != 0 else { return empty }
      let line = text(at: UInt(doubleword(at: information + 16)))
      if flags & 1 << 9 != 0, isQEMU(text(at: UInt(doubleword(at: information + 64)))) {
        return withoutFirstWord(line)
      }
      return line
    case _ where information != 0 && doubleword(at: information) == 0x336e_c578:
      // Below 4 GiB: the tables that we run on reach no further.
      return text(at: UInt(doubleword(at: information + 24)))
    default:
      return empty
    }
  }

  private static var empty: UnsafeBufferPointer<UInt8> { UnsafeBufferPointer(start: nil, count: 0) }

  private static func doubleword(at address: UInt) -> UInt32 {
    UnsafePointer<UInt32>(bitPattern: address).map { $0.pointee } ?? 0
  }

  private static func text(at address: UInt) -> UnsafeBufferPointer<UInt8> {
    guard let start = UnsafePointer<UInt8>(bitPattern: address) else { return empty }
    var count = 0
    while count < longestText, start[count] != 0 { count &+= 1 }
    return UnsafeBufferPointer(start: start, count: count)
  }

  /// QEMU puts the image's path before what the user appended.
  private static func isQEMU(_ loader: UnsafeBufferPointer<UInt8>) -> Bool {
    loader.count == 4 && loader[0] == UInt8(ascii: "q") && loader[1] == UInt8(ascii: "e")
      && loader[2] == UInt8(ascii: "m") && loader[3] == UInt8(ascii: "u")
  }

  private static func withoutFirstWord(_ line: UnsafeBufferPointer<UInt8>) -> UnsafeBufferPointer<UInt8> {
    var start = 0
    while start < line.count, line[start] != UInt8(ascii: " ") { start &+= 1 }
    while start < line.count, line[start] == UInt8(ascii: " ") { start &+= 1 }
    return UnsafeBufferPointer(rebasing: line[start...])
  }
}

/// Where `main` returns to.
@c(native_exit)
func exitAfterMain(_ code: UInt32) -> Never {
  Platform.exit(UInt8(truncatingIfNeeded: code))
}
