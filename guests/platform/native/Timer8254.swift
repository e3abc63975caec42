import CNative
import CPlatform

/// The timer that every PC has: channel 0 of the 8254 behind the first 8259A interrupt controller. Its frequency is
/// known, so nothing has to be measured first.
enum Timer8254 {
  private static let command1: UInt16 = 0x20
  private static let data1: UInt16 = 0x21
  private static let command2: UInt16 = 0xa0
  private static let data2: UInt16 = 0xa1
  private static let oscillator: UInt32 = 1_193_182

  static func start(frequency: UInt32) {
    // Both controllers: edge-triggered, cascaded at line 2, vectors from 0x20 and 0x28; only line 0 let through.
    native_outb(command1, 0x11)
    native_outb(command2, 0x11)
    native_outb(data1, UInt8(truncatingIfNeeded: trapVectorTimer))
    native_outb(data2, UInt8(truncatingIfNeeded: trapVectorTimer) &+ 8)
    native_outb(data1, 1 << 2)
    native_outb(data2, 2)
    native_outb(data1, 1)
    native_outb(data2, 1)
    native_outb(data1, ~1)
    native_outb(data2, 0xff)
    // Channel 0, low byte then high byte, mode 2 (rate generator).
    let divisor = oscillator / frequency
    native_outb(0x43, 0x34)
    native_outb(0x40, UInt8(truncatingIfNeeded: divisor))
    native_outb(0x40, UInt8(truncatingIfNeeded: divisor >> 8))
  }

  static func stop() { native_outb(data1, 0xff) }

  static func acknowledge() { native_outb(command1, 0x20) }
}
