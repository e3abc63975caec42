import TrivisorDevices
import TrivisorVMM

/// The devices that every PC has at ports, power management's (ACPI) and the test devices among them.
final class PortTarget: FuzzTarget {
  static let name = "port"
  static let sizeLimit = 600
  static let seeds: [[UInt8]] = [
    // The clock's registers, the keyboard's self-test, a character, sleep, reset.
    [9, 1, 0x0b, 9, 0x81, 0], [5, 1, 0xaa, 2, 1, 0x60], [14, 1, 0x41, 17, 0x21, 0x34], [20, 1, 6],
  ]

  private static let ranges: [ClosedRange<UInt16>] = [
    0x5e...0x66, 0x6e...0x73, 0x7e...0x82, 0xde...0xed, 0xf0...0xf9, 0x3f5...0x402, 0x503...0x507, 0x50e...0x513,
    0x5ee...0x5fb, 0x5fe...0x60d, 0xcf5...0xd02, 0x1ffe...0x2019,
  ]
  private static let ports = ranges.flatMap { Array($0) }

  init() {}

  private static func makeBus() throws -> Bus {
    let router = InterruptRouter()
    let line = InterruptLine(4, router: router)
    let keyboard = KeyboardController(interrupt: line)
    let sink = MemorySink(limit: 64)
    return try Bus(ports: [
      .init("i8042 data", base: 0x60, count: 1, device: keyboard.dataPort),
      .init("port B", base: 0x61, count: 1, device: SystemControlPortB()),
      .init("i8042 command", base: 0x64, count: 1, device: keyboard.commandPort),
      .init("CMOS", base: 0x70, count: 2, device: CMOSClock(memoryBelow4GiB: 128 << 20)),
      .init("POST", base: 0x80, count: 1, device: DiagnosticPort()),
      .init("test", base: TestPorts.conventionalPort, count: TestPorts.portCount, device: TestPorts()),
      .init("debug exit", base: 0xf4, count: 4, device: DebugExit(encoding: .qemu)),
      .init("serial", base: 0x3f8, count: 8, device: SerialPort16550(sink: sink, interrupt: line)),
      .init("pvpanic", base: 0x505, count: 1, device: PVPanic()),
      .init(
        "firmware", base: FirmwareConfiguration.conventionalPort, count: FirmwareConfiguration.portCount,
        device: FirmwareConfiguration(processorCount: 2, memorySize: 1 << 30)),
      .init("exit code", base: 0x5f0, count: 4, device: ExitCodeRegister()),
      .init("milestones", base: 0x5f4, count: 1, device: MilestonePort()),
      .init("power management", base: 0x600, count: 6, device: PowerManagementPorts(interrupt: line)),
      .init(
        "power management timer", base: PowerManagementTimer.conventionalPort, count: PowerManagementTimer.portCount,
        device: PowerManagementTimer()),
      .init("PCI", base: 0xcf8, count: 8, device: PCIConfigurationPorts(resetControl: ResetControl())),
      .init(
        "lines", base: TestInterruptLines.conventionalPort, count: TestInterruptLines.portCount,
        device: TestInterruptLines(router: router)),
    ])
  }

  func run(_ bytes: UnsafeRawBufferPointer) {
    guard let bus = try? Self.makeBus() else { preconditionFailure("two devices want the same port") }
    var input = FuzzInput(bytes)
    while !input.isEmpty {
      let port = Self.ports[Int(input.byte()) % Self.ports.count]
      let form = input.byte()
      let width = AccessWidth.allCases[Int(form >> 1) % AccessWidth.allCases.count]
      if form & 1 == 0 {
        precondition(UInt64(bus.readPort(port, width: width)) <= width.allOnes)
      } else {
        let value: UInt32 = width == .byte ? UInt32(input.byte()) : input.number()
        _ = bus.writePort(port, value, width: width)
      }
    }
  }
}
