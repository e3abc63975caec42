@testable import TrivisorDevices
import Testing
import TrivisorVMM

@Suite("Power management timer")
struct PowerManagementTimerTests {
  @Test("counts 3,579,545 ticks a second in 24 bits, whatever the width of the look")
  func counts() throws {
    let clock = ManualClock()
    let bus = try Bus(ports: [
      .init("timer", base: 0x608, count: 4, device: PowerManagementTimer(now: { clock.nanoseconds }))
    ])
    func value() -> UInt32 { bus.readPort(0x608, width: .doubleword) }
    let start = value()
    #expect(start == 3_579_545)
    clock.advance(nanoseconds: 1_000_000)
    #expect((3579...3580).contains(value() - start))
    #expect(UInt32(bus.inb(0x609)) == value() >> 8 & 0xff)
    clock.advance(nanoseconds: 1 << 40)
    #expect(value() < 1 << 24)
    bus.outb(0x608, 0)
    #expect(value() != 0)
  }
}
