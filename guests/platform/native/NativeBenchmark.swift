// The benchmark's operations on a PC.

import CNative
import CPlatform

private let ownInterruptVector: UInt64 = 0x31

extension Platform: BenchmarkPlatform {
  static var hasPorts: Bool { true }

  static func readPort() {
    // The serial port's scratch register.
    _ = native_inb(0x3ff)
  }

  static func writeControlRegister(taskSwitched: Bool) {
    let value = native_read_cr0()
    native_write_cr0(taskSwitched ? value | 8 : value & ~8)
  }

  static func prepareInterrupts() -> Bool {
    // Firmware may have left its timer running, at vectors that are the processor's own exceptions.
    native_outb(0x21, 0xff)
    native_outb(0xa1, 0xff)
    LocalAPIC.enable()
    trapHandler = { frame in
      if frame.pointee.vector == ownInterruptVector {
        LocalAPIC.endInterrupt()
      } else {
        Platform.report(frame)
        Platform.exit(1)
      }
    }
    return true
  }

  static func interruptSelf() {
    LocalAPIC.sendToSelf(vector: UInt32(ownInterruptVector))
    native_take_interrupts()
  }
}
