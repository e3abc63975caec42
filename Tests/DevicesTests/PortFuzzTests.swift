import TrivisorDevices
import TrivisorSpoiledStates
import Testing
import TrivisorVMM

/// Every device of the platform, where a PC has it.
private func platformBus() throws -> Bus {
  let (line, _) = recordedLine(4)
  let keyboard = KeyboardController(interrupt: line)
  return try Bus(ports: [
    .init("i8042 data", base: 0x60, count: 1, device: keyboard.dataPort),
    .init("port B", base: 0x61, count: 1, device: SystemControlPortB()),
    .init("i8042 command", base: 0x64, count: 1, device: keyboard.commandPort),
    .init("CMOS", base: 0x70, count: 2, device: CMOSClock(memoryBelow4GiB: 128 << 20)),
    .init("POST", base: 0x80, count: 1, device: DiagnosticPort()),
    .init("debug exit", base: 0xf4, count: 4, device: DebugExit(encoding: .qemu)),
    .init("serial", base: 0x3f8, count: 8, device: SerialPort16550(sink: MemorySink(limit: 64), interrupt: line)),
    .init("pvpanic", base: 0x505, count: 1, device: PVPanic()),
    .init("exit code", base: 0x5f0, count: 4, device: ExitCodeRegister()),
    .init("PCI", base: 0xcf8, count: 8, device: PCIConfigurationPorts(resetControl: ResetControl())),
  ])
}

@Suite("Random accesses")
struct PortFuzzTests {
  @Test("no access of any width to any register of any device traps", arguments: 1...8 as ClosedRange<UInt64>)
  func everyRegister(seed: UInt64) throws {
    let bus = try platformBus()
    let ranges: [ClosedRange<UInt16>] = [
      0x5e...0x66, 0x6e...0x73, 0x7e...0x82, 0xf0...0xf9, 0x3f5...0x402, 0x503...0x507, 0x5ee...0x5f5, 0xcf5...0xd02,
    ]
    var generator = SeededGenerator(seed: seed)
    for _ in 0..<20_000 {
      let port = UInt16.random(in: ranges[Int.random(in: 0..<ranges.count, using: &generator)], using: &generator)
      let width = AccessWidth.allCases[Int.random(in: 0..<4, using: &generator)]
      if Bool.random(using: &generator) {
        let value = bus.readPort(port, width: width)
        #expect(UInt64(value) <= width.allOnes)
      } else {
        _ = bus.writePort(port, UInt32.random(in: 0...UInt32.max, using: &generator), width: width)
      }
    }
  }

  @Test(
    "the clock survives every value in every register while it runs and while it stands",
    arguments: [0x02, 0x82] as [UInt8])
  func everyClockRegister(statusB: UInt8) throws {
    let bus = try platformBus()
    for register: UInt8 in 0...0x7f {
      for value: UInt8 in 0...0xff {
        bus.outb(0x70, 0x0b)
        bus.outb(0x71, statusB | value & 0x04)
        bus.outb(0x70, register)
        bus.outb(0x71, value)
        for time: UInt8 in 0...0x0d {
          bus.outb(0x70, time)
          _ = bus.inb(0x71)
        }
      }
    }
  }
}
