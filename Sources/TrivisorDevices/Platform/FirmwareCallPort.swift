import Synchronization
import TrivisorVMM

/// Where a machine without a BIOS notices that real-mode code wanted one, or met an exception that it does not handle.
///
/// A PC's firmware fills the 256 real-mode interrupt vectors before it starts a boot sector. Here most lead to a few
/// instructions of ours (`FirmwareCode`), which hand this port what the interrupted code had: AX, the vector, IP and CS, a word each. The
/// last one ends the machine. A guest that sets a vector of its own never comes here.
public final class FirmwareCallPort: PortDevice {
  /// Its port: nobody else's on a PC.
  public static let conventionalPort: UInt16 = 0x5f8
  /// How many ports it answers.
  public static let portCount: UInt16 = 2

  private let words = Mutex<[UInt16]>([])

  /// Nothing handed over yet.
  public init() {}

  /// Ones: there is nothing to read.
  public func read(at offset: UInt16, width: AccessWidth) -> UInt32 { UInt32(truncatingIfNeeded: width.allOnes) }

  /// Takes the next word; behind the fourth, the machine ends.
  public func write(_ value: UInt32, at offset: UInt16, width: AccessWidth) -> DeviceEffect {
    let complete: [UInt16]? = words.withLock { words in
      words.append(UInt16(truncatingIfNeeded: value))
      return words.count == 4 ? words : nil
    }
    guard let complete else { return .none }
    let place = "\(hexadecimal(UInt64(complete[3]), digits: 4)):\(hexadecimal(UInt64(complete[2]), digits: 4))"
    return .stop(
      .crashed(
        CrashReport(summary: Self.summary(vector: UInt8(truncatingIfNeeded: complete[1]), ax: complete[0], place))))
  }

  private static func summary(vector: UInt8, ax: UInt16, _ place: String) -> String {
    if let exception = exceptions[vector] {
      return "it does not handle \(exception) (vector \(vector)) in real mode, at \(place)"
    }
    let service = services[vector].map { " (\($0))" } ?? ""
    return "it called a BIOS by INT \(hexadecimal(UInt64(vector), digits: 2))\(service) with AX "
      + "\(hexadecimal(UInt64(ax), digits: 4)), before \(place), and there is none: give a guest that needs no BIOS, such as"
      + " a kernel, or one that uses the serial port"
  }

  /// Those of a processor in real mode (AMD64 APM vol. 2, table 8-1) whose vectors no BIOS service shares.
  private static let exceptions: [UInt8: String] = [
    0: "a division error", 1: "a debug exception", 3: "a breakpoint", 4: "an overflow", 6: "an undefined instruction",
    7: "the missing of a coprocessor", 8: "a double fault or interrupt 0", 12: "a stack fault or interrupt 4",
    13: "a general-protection fault or interrupt 5",
  ]

  private static let services: [UInt8: String] = [
    0x05: "print screen", 0x10: "video", 0x11: "equipment", 0x12: "memory size", 0x13: "disks", 0x14: "serial ports",
    0x15: "system services", 0x16: "keyboard", 0x17: "printers", 0x18: "no bootable disk", 0x19: "boot again",
    0x1a: "clock", 0x21: "DOS",
  ]
}
