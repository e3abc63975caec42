import TrivisorDevices
import Synchronization
import Testing
import TrivisorVMM

@Suite("Platform devices")
struct PlatformTests {
  @Test("debug exit: the low eight bits are the code", arguments: AccessWidth.allCases.prefix(3))
  func debugExit(width: AccessWidth) throws {
    let bus = try Bus(ports: [.init("exit", base: 0xf4, count: DebugExit.portCount, device: DebugExit())])
    #expect(bus.writePort(0xf4, 0xffff_ff21, width: width) == .stop(.exited(code: 0x21)))
    #expect(bus.readPort(0xf4, width: width) == UInt32(width.allOnes))
  }

  @Test(
    "debug exit in QEMU's encoding is odd",
    arguments: [(0, 1), (0x10, 0x21), (0x80, 0x01), (-1, 0xff)] as [(Int, UInt8)])
  func qemuEncoding(value: Int, code: UInt8) throws {
    let device = DebugExit(encoding: .qemu)
    #expect(
      device.write(UInt32(truncatingIfNeeded: value), at: 0, width: .doubleword) == .stop(.exited(code: code)))
  }

  @Test("the exit-code register is recognized by its magic and never turns a large value into success")
  func exitCode() throws {
    let bus = try Bus(
      ports: [.init("exit code", base: 0x5f0, count: ExitCodeRegister.portCount, device: ExitCodeRegister())])
    #expect(bus.readPort(0x5f0, width: .doubleword) == 0x5856_5254)
    #expect((0..<4).map { bus.inb(0x5f0 + $0) } == Array("TRVX".utf8))
    #expect(bus.writePort(0x5f0, 0, width: .doubleword) == .stop(.exited(code: 0)))
    #expect(bus.writePort(0x5f0, 42, width: .word) == .stop(.exited(code: 42)))
    #expect(bus.writePort(0x5f0, 256, width: .word) == .stop(.exited(code: 255)))
    #expect(bus.writePort(0x5f2, 1, width: .word) == DeviceEffect.none)
  }

  @Test("port 0x80 keeps the last code")
  func diagnosticPort() throws {
    let device = DiagnosticPort()
    let bus = try Bus(ports: [.init("POST", base: 0x80, count: 1, device: device)])
    bus.outb(0x80, 0x5a)
    #expect(bus.inb(0x80) == 0x5a)
    #expect(device.lastCode == 0x5a)
  }

  @Test("pvpanic: a panic ends the machine, a crash kernel does not")
  func pvpanic() throws {
    let device = PVPanic()
    let bus = try Bus(ports: [.init("pvpanic", base: 0x505, count: 1, device: device)])
    #expect(bus.inb(0x505) == 0x07)
    #expect(bus.outb(0x505, 0x02) == .none)
    #expect(bus.outb(0x505, 0x01) == .stop(.crashed(CrashReport(summary: PVPanic.panicSummary))))
    #expect(bus.outb(0x505, 0x04) == .stop(.shutdown))
    #expect(device.events == [.panicked, .crashLoaded, .shutdown])
  }

  @Test("test ports: one doubleword through two windows, a byte, a word or all of it at a time")
  func testPorts() throws {
    let bus = try Bus(ports: [.init("test", base: 0xe0, count: TestPorts.portCount, device: TestPorts())])
    _ = bus.writePort(0xe0, 0x1234_5678, width: .doubleword)
    #expect(bus.readPort(0xe0, width: .doubleword) == 0x1234_5678)
    #expect(bus.readPort(0xe1, width: .word) == 0x3456)
    #expect(bus.inb(0xeb) == 0x12)
    bus.outb(0xe9, 0xff)
    #expect(bus.readPort(0xe0, width: .doubleword) == 0x1234_ff78)
    // A page to be mapped anew.
    _ = bus.writePort(0xe4, 0x5000, width: .doubleword)
    #expect(bus.readPort(0xe0, width: .doubleword) == 0x1234_ff78)
  }

  @Test("test lines: a line is asserted as long as its port was last written with anything but 0")
  func testLines() throws {
    let router = InterruptRouter()
    let controller = RecordingController()
    router.connect(controller)
    let lines = TestInterruptLines(router: router)
    let bus = try Bus(ports: [.init("lines", base: 0x2000, count: TestInterruptLines.portCount, device: lines)])
    bus.outb(0x200e, 1)
    #expect(controller.level(14))
    bus.outb(0x200e, 0x80)
    #expect(controller.rises(14) == 1)
    bus.outb(0x200e, 0)
    #expect(!controller.level(14))
    _ = bus.writePort(0x2017, 1, width: .doubleword)
    #expect((0..<24).allSatisfy { !controller.level($0) || $0 == 23 })
  }

  @Test("test memory: every width reads what was written, across widths and at the end")
  func testMemory() throws {
    let base = TestMemory.conventionalAddress
    let bus = try Bus(memory: [.init("memory", base: base, size: TestMemory.size, device: TestMemory())])
    _ = bus.writeMemory(GuestPhysicalAddress(base.rawValue + 6), 0x8877_6655_4433_2211, width: .quadword)
    #expect(bus.readMemory(GuestPhysicalAddress(base.rawValue + 8), width: .doubleword) == 0x6655_4433)
    _ = bus.writeMemory(GuestPhysicalAddress(base.rawValue + 0xfffe), 0xaabb_ccdd, width: .doubleword)
    #expect(bus.readMemory(GuestPhysicalAddress(base.rawValue + 0xfffe), width: .quadword) == 0xffff_ffff_ffff_ccdd)
  }

  @Test("firmware configuration: an item's bytes, then zeros; nothing where there is no item")
  func firmware() throws {
    let device = FirmwareConfiguration(processorCount: 3, memorySize: 0x1_2000_0000)
    let bus = try Bus(ports: [.init("fw_cfg", base: 0x510, count: 2, device: device)])
    func item(_ number: UInt32, count: Int) -> [UInt8] {
      _ = bus.writePort(0x510, number, width: .word)
      return (0..<count).map { _ in bus.inb(0x511) }
    }
    #expect(item(0, count: 5) == Array("QEMU".utf8) + [0])
    #expect(item(5, count: 3) == [3, 0, 0])
    #expect(item(0x4005, count: 1) == [3])
    #expect(item(3, count: 8) == [0, 0, 0, 0x20, 1, 0, 0, 0])
    #expect(item(0x8000, count: 2) == [0, 0])
    #expect(item(0xffff, count: 1) == [0])
  }

  @Test("the PCI address reads back, every device is absent, and 0xcf9 resets")
  func pciPorts() throws {
    let bus = try Bus(
      ports: [
        .init("PCI", base: 0xcf8, count: 8, device: PCIConfigurationPorts(resetControl: ResetControl()))
      ])
    _ = bus.writePort(0xcf8, 0x8000_0003, width: .doubleword)
    #expect(bus.readPort(0xcf8, width: .doubleword) == 0x8000_0000)
    #expect(bus.readPort(0xcfc, width: .doubleword) == 0xffff_ffff)
    #expect(bus.readPort(0xcfe, width: .word) == 0xffff)
    #expect(bus.outb(0xcfb, 1) == .none)
    #expect(bus.outb(0xcf9, 0x02) == .none)
    #expect(bus.inb(0xcf9) == 0x02)
    #expect(bus.outb(0xcf9, 0x06) == .stop(.reset))
    #expect(bus.readPort(0xcf8, width: .doubleword) == 0x8000_0000)
  }

  @Test("port 0x61: gate and speaker read back, the refresh bit toggles")
  func systemControlPortB() throws {
    final class Timer: SpeakerTimer {
      let gate = Atomic<Bool>(false)
      func setGate(_ isOpen: Bool) { gate.store(isOpen, ordering: .relaxed) }
      var output: Bool { gate.load(ordering: .relaxed) }
    }
    let timer = Timer()
    let bus = try Bus(ports: [.init("port B", base: 0x61, count: 1, device: SystemControlPortB(timer: timer))])
    bus.outb(0x61, 0xff)
    #expect(bus.inb(0x61) & ~0x10 == 0x23)
    bus.outb(0x61, 0x02)
    #expect(bus.inb(0x61) & ~0x10 == 0x02)
    let first = bus.inb(0x61) & 0x10
    var toggled = false
    for _ in 0..<1_000_000 where !toggled { toggled = bus.inb(0x61) & 0x10 != first }
    #expect(toggled)
  }
}

@Suite("Keyboard controller")
struct KeyboardControllerTests {
  private let bus: Bus
  private let lines: RecordingController

  init() throws {
    let (line, controller) = recordedLine(1)
    lines = controller
    let keyboard = KeyboardController(interrupt: line)
    bus = try Bus(ports: [
      .init("i8042 data", base: 0x60, count: 1, device: keyboard.dataPort),
      .init("i8042 command", base: 0x64, count: 1, device: keyboard.commandPort),
    ])
  }

  /// A command with an answer.
  private func answer(_ command: UInt8) -> UInt8? {
    bus.outb(0x64, command)
    return bus.inb(0x64) & 0x01 != 0 ? bus.inb(0x60) : nil
  }

  @Test("every way to pull the reset line resets")
  func reset() {
    #expect(bus.outb(0x64, 0xfe) == .stop(.reset))
    #expect(bus.outb(0x64, 0xf0) == .stop(.reset))
    #expect(bus.outb(0x64, 0xff) == .none)
    bus.outb(0x64, 0xd1)
    #expect(bus.outb(0x60, 0xdf) == .none)
    bus.outb(0x64, 0xd1)
    #expect(bus.outb(0x60, 0xde) == .stop(.reset))
  }

  @Test("the input buffer is never full, so a reset command need not wait")
  func ready() {
    #expect(bus.inb(0x64) & 0x03 == 0)
  }

  @Test("the A20 gate reads back")
  func gateA20() {
    bus.outb(0x64, 0xdd)
    #expect(answer(0xd0) == 0x01)
    bus.outb(0x64, 0xd1)
    bus.outb(0x60, 0xdf)
    #expect(answer(0xd0) == 0x03)
  }

  @Test("a driver's probing is answered at once, and finds neither keyboard nor mouse")
  func probing() {
    #expect(answer(0xaa) == 0x55)
    #expect(bus.inb(0x64) & 0x04 != 0)
    #expect(answer(0xab) == 0x00)
    #expect(answer(0xa9) != 0x00)
    bus.outb(0x64, 0x60)
    bus.outb(0x60, 0x65)
    #expect(answer(0x20) == 0x65)
    // The mouse's loop works, marked as the mouse's.
    bus.outb(0x64, 0xd3)
    bus.outb(0x60, 0x5a)
    #expect(bus.inb(0x64) & 0x21 == 0x21)
    #expect(bus.inb(0x60) == 0x5a)
    bus.outb(0x64, 0xa8)
    #expect(answer(0x20).map { $0 & 0x20 } == 0)
    bus.outb(0x64, 0xa7)
    #expect(answer(0x20).map { $0 & 0x20 } == 0x20)
    // Identify yourself, keyboard.
    bus.outb(0x60, 0xf2)
    #expect(bus.inb(0x64) & 0x41 == 0x41)
    #expect(lines.level(1))
    #expect(bus.inb(0x60) == 0xfe)
    #expect(!lines.level(1))
    #expect(bus.inb(0x64) & 0x01 == 0)
  }
}

@Suite("Milestones")
struct MilestoneTests {
  @Test("each byte is noted with its time, up to a limit")
  func milestones() {
    let port = MilestonePort()
    #expect(port.read(at: 0, width: .byte) == 0)
    let before = monotonicNanoseconds()
    #expect(port.write(1, at: 0, width: .byte) == .none)
    #expect(port.write(7, at: 0, width: .byte) == .none)
    #expect(port.milestones.map(\.value) == [1, 7])
    #expect(port.milestones[0].time >= before && port.milestones[1].time >= port.milestones[0].time)
    #expect(port.read(at: 0, width: .byte) == 7)
    for _ in 0..<1000 { _ = port.write(2, at: 0, width: .byte) }
    #expect(port.milestones.count == 64)
  }
}
