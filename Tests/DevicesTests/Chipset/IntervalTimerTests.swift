@testable import TrivisorDevices
import Testing
import TrivisorVMM

@Suite("8254")
struct IntervalTimerTests {
  private let machine: ChipsetMachine

  init() throws {
    machine = try ChipsetMachine()
    machine.initializeLegacyController()
  }

  private func program(_ counter: UInt8, mode: UInt8, count: UInt16) {
    machine.bus.outb(0x43, counter << 6 | 0x30 | mode << 1)
    machine.bus.outb(0x40 + UInt16(counter), UInt8(truncatingIfNeeded: count))
    machine.bus.outb(0x40 + UInt16(counter), UInt8(truncatingIfNeeded: count >> 8))
  }

  private func latched(_ counter: UInt8) -> UInt16 {
    machine.bus.outb(0x43, counter << 6)
    let low = machine.bus.inb(0x40 + UInt16(counter))
    return UInt16(low) | UInt16(machine.bus.inb(0x40 + UInt16(counter))) << 8
  }

  /// So long that the clock has counted `ticks`.
  private func pass(ticks: UInt64) {
    machine.clock.advance(nanoseconds: (ticks * 1_000_000_000 + 1_193_181) / 1_193_182)
  }

  @Test("mode 0: one interrupt when the count is over; then it counts on from the top")
  func oneShot() {
    program(0, mode: 0, count: 1193)
    #expect(latched(0) == 1193)
    pass(ticks: 193)
    #expect(latched(0) == 1000)
    #expect(machine.processor().deadline > machine.clock.nanoseconds)
    pass(ticks: 1000)
    #expect(machine.processor().deadline <= machine.clock.nanoseconds)
    machine.processor().advance()
    #expect(machine.vector() == 8)
    machine.bus.outb(0x20, 0x20)
    #expect(machine.processor().deadline == .max)
    pass(ticks: 3)
    #expect(latched(0) == 0xfffd)
    #expect(machine.vector() == nil)
  }

  @Test("modes 2 and 3: an interrupt a period", arguments: [2, 3, 6, 7] as [UInt8])
  func periodic(mode: UInt8) {
    program(0, mode: mode, count: 11932)
    for _ in 0..<3 {
      machine.clock.advance(nanoseconds: 10_000_500)
      machine.processor().advance()
      #expect(machine.vector() == 8)
      machine.bus.outb(0x20, 0x20)
      #expect(machine.vector() == nil)
    }
  }

  @Test("mode 4: a strobe one tick behind the count")
  func strobe() {
    program(0, mode: 4, count: 100)
    pass(ticks: 100)
    machine.processor().advance()
    #expect(machine.vector() == nil)
    pass(ticks: 1)
    machine.processor().advance()
    #expect(machine.vector() == 8)
  }

  @Test("read-back latches status and count")
  func readBack() {
    machine.bus.outb(0x43, 0x34)
    machine.bus.outb(0x43, 0xe2)
    // No count yet; the output of mode 2 is high.
    #expect(machine.bus.inb(0x40) == 0xf4)
    program(0, mode: 2, count: 1000)
    pass(ticks: 400)
    machine.bus.outb(0x43, 0xc2)
    pass(ticks: 400)
    #expect(machine.bus.inb(0x40) == 0xb4)
    #expect(UInt16(machine.bus.inb(0x40)) | UInt16(machine.bus.inb(0x40)) << 8 == 600)
    #expect(latched(0) == 200)
  }

  @Test("one byte counts, and decimal ones")
  func access() {
    machine.bus.outb(0x43, 0x90 | 0x08)
    machine.bus.outb(0x42, 200)
    machine.bus.outb(0x61, 1)
    pass(ticks: 50)
    #expect(machine.bus.inb(0x42) == 150)
    machine.bus.outb(0x43, 0x35)
    machine.bus.outb(0x40, 0x00)
    machine.bus.outb(0x40, 0x10)
    pass(ticks: 1)
    #expect(latched(0) == 0x0999)
  }

  @Test("counter 2 as kernels measure with it: gate and output at port 0x61")
  func speaker() {
    machine.bus.outb(0x61, 1)
    program(2, mode: 0, count: 59659)
    #expect(machine.bus.inb(0x61) & 0x21 == 0x01)
    machine.clock.advance(nanoseconds: 49_000_000)
    #expect(machine.bus.inb(0x61) & 0x20 == 0)
    // A closed gate holds the count.
    machine.bus.outb(0x61, 0)
    machine.clock.advance(nanoseconds: 49_000_000)
    #expect(machine.bus.inb(0x61) & 0x20 == 0)
    machine.bus.outb(0x61, 1)
    machine.clock.advance(nanoseconds: 1_100_000)
    #expect(machine.bus.inb(0x61) & 0x20 == 0x20)
  }

  @Test("a count that is written in a periodic mode waits for the end of the period, in mode 3 of half of it")
  func changed() {
    program(0, mode: 2, count: 1000)
    pass(ticks: 400)
    machine.bus.outb(0x40, 200)
    machine.bus.outb(0x40, 0)
    // Read-back: the count is not loaded yet.
    machine.bus.outb(0x43, 0xe2)
    #expect(machine.bus.inb(0x40) & 0x40 == 0x40)
    #expect(latched(0) == 600)
    pass(ticks: 599)
    #expect(latched(0) == 1)
    machine.processor().advance()
    #expect(machine.vector() == nil)
    pass(ticks: 11)
    machine.processor().advance()
    #expect(machine.vector() == 8)
    machine.bus.outb(0x20, 0x20)
    #expect(latched(0) == 190)
    machine.bus.outb(0x43, 0xe2)
    #expect(machine.bus.inb(0x40) & 0x40 == 0)
    pass(ticks: 190)
    machine.processor().advance()
    #expect(machine.vector() == 8)

    machine.bus.outb(0x61, 1)
    program(2, mode: 3, count: 1000)
    pass(ticks: 100)
    machine.bus.outb(0x42, 200)
    machine.bus.outb(0x42, 0)
    #expect(latched(2) == 800)
    pass(ticks: 399)
    #expect(machine.bus.inb(0x61) & 0x20 == 0x20)
    // Low for half of 200, then high for as long.
    pass(ticks: 2)
    #expect(machine.bus.inb(0x61) & 0x20 == 0)
    pass(ticks: 98)
    #expect(machine.bus.inb(0x61) & 0x20 == 0)
    pass(ticks: 4)
    #expect(machine.bus.inb(0x61) & 0x20 == 0x20)
    pass(ticks: 100)
    #expect(machine.bus.inb(0x61) & 0x20 == 0)
  }

  @Test("a count that is written during a one-shot is for the next one")
  func oneShotChanged() {
    program(2, mode: 1, count: 100)
    machine.bus.outb(0x61, 1)
    pass(ticks: 40)
    machine.bus.outb(0x42, 10)
    machine.bus.outb(0x42, 0)
    #expect(latched(2) == 60 && machine.bus.inb(0x61) & 0x20 == 0)
    pass(ticks: 61)
    #expect(machine.bus.inb(0x61) & 0x20 == 0x20)
    machine.bus.outb(0x61, 0)
    machine.bus.outb(0x61, 1)
    #expect(latched(2) == 10)
    pass(ticks: 11)
    #expect(machine.bus.inb(0x61) & 0x20 == 0x20)
  }

  @Test("a closed gate holds the count of a periodic mode, and an open one begins anew")
  func closed() {
    machine.bus.outb(0x61, 1)
    program(2, mode: 2, count: 1000)
    pass(ticks: 300)
    machine.bus.outb(0x61, 0)
    pass(ticks: 300)
    #expect(latched(2) == 700 && machine.bus.inb(0x61) & 0x20 == 0x20)
    machine.bus.outb(0x61, 1)
    #expect(latched(2) == 1000)
  }

  @Test("hardware-triggered modes begin with the gate", arguments: [1, 5] as [UInt8])
  func triggered(mode: UInt8) {
    program(2, mode: mode, count: 100)
    #expect(machine.bus.inb(0x61) & 0x20 == 0x20)
    machine.bus.outb(0x61, 1)
    pass(ticks: mode == 1 ? 50 : 100)
    #expect(machine.bus.inb(0x61) & 0x20 == 0)
    pass(ticks: 60)
    #expect(machine.bus.inb(0x61) & 0x20 == 0x20)
  }
}
