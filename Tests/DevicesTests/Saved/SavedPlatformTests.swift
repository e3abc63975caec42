import Foundation
import Synchronization
import TrivisorSpoiledStates
import Testing
import TrivisorVMM

@testable import TrivisorDevices

/// The platform's devices, where a PC has them, with a clock that stands until it is told to go.
private final class Platform: Sendable {
  struct Saved {
    let serial: SerialPort16550.Saved
    let keyboard: KeyboardController.Saved
    let clock: CMOSClock.Saved
    let diagnostic: DiagnosticPort.Saved
    let panic: PVPanic.Saved
    let configuration: PCIConfigurationPorts.Saved
    let power: PowerManagementPorts.Saved
    let timer: PowerManagementTimer.Saved
    let milestones: MilestonePort.Saved
    let portB: SystemControlPortB.Saved
    let testPorts: TestPorts.Saved
    let testLines: TestInterruptLines.Saved
    let testMemory: TestMemory.Saved
    let firmware: FirmwareConfiguration.Saved
  }

  static let lines = [1, 4, 8, 9, 14]
  let controller = RecordingController()
  let sink = MemorySink(limit: 1 << 16)
  let serial: SerialPort16550
  let keyboard: KeyboardController
  let clock: CMOSClock
  let diagnostic = DiagnosticPort()
  let panic = PVPanic()
  let configuration = PCIConfigurationPorts(resetControl: ResetControl())
  let power: PowerManagementPorts
  let timer: PowerManagementTimer
  let milestones = MilestonePort()
  let portB = SystemControlPortB()
  let testPorts = TestPorts()
  let testLines: TestInterruptLines
  let testMemory = TestMemory()
  let firmware = FirmwareConfiguration(processorCount: 3, memorySize: 128 << 20)
  let bus: Bus
  let time: TestTime

  /// Nanoseconds of both clocks: the time of day, which is everybody's, and one that begins anywhere.
  final class TestTime: Sendable {
    let day = Atomic<Int64>(1_700_000_000_123_456_789)
    let monotonic: Atomic<UInt64>
    init(_ start: UInt64) { monotonic = Atomic(start) }
    func advance(_ nanoseconds: UInt64) {
      day.add(Int64(nanoseconds), ordering: .relaxed)
      monotonic.add(nanoseconds, ordering: .relaxed)
    }
  }

  init(start: UInt64) throws {
    let router = InterruptRouter()
    router.connect(controller)
    let time = TestTime(start)
    self.time = time
    serial = SerialPort16550(sink: sink, interrupt: InterruptLine(4, router: router))
    keyboard = KeyboardController(interrupt: InterruptLine(1, router: router))
    clock = CMOSClock(memoryBelow4GiB: 128 << 20, interrupt: InterruptLine(8, router: router)) {
      let now = time.day.load(ordering: .relaxed)
      return CMOSClock.Instant(seconds: now / 1_000_000_000, nanoseconds: now % 1_000_000_000)
    }
    power = PowerManagementPorts(interrupt: InterruptLine(9, router: router))
    timer = PowerManagementTimer { time.monotonic.load(ordering: .relaxed) }
    testLines = TestInterruptLines(router: router)
    bus = try Bus(
      ports: [
        .init("i8042 data", base: 0x60, count: 1, device: keyboard.dataPort),
        .init("port B", base: 0x61, count: 1, device: portB),
        .init("i8042 command", base: 0x64, count: 1, device: keyboard.commandPort),
        .init("CMOS", base: 0x70, count: 2, device: clock),
        .init("POST", base: 0x80, count: 1, device: diagnostic),
        .init("test ports", base: 0xe0, count: 12, device: testPorts),
        .init("firmware", base: 0x510, count: 2, device: firmware),
        .init("test lines", base: 0x2000, count: 24, device: testLines),
        .init("serial", base: 0x3f8, count: 8, device: serial),
        .init("pvpanic", base: 0x505, count: 1, device: panic),
        .init("milestones", base: 0x5f4, count: 1, device: milestones),
        .init("power", base: 0x600, count: 6, device: power),
        .init("power timer", base: 0x608, count: 4, device: timer),
        .init("PCI", base: 0xcf8, count: 8, device: configuration),
      ], memory: [.init("test memory", base: TestMemory.conventionalAddress, size: TestMemory.size, device: testMemory)]
    )
  }

  func save() -> Saved {
    Saved(
      serial: serial.save(), keyboard: keyboard.save(), clock: clock.save(), diagnostic: diagnostic.save(),
      panic: panic.save(), configuration: configuration.save(), power: power.save(), timer: timer.save(),
      milestones: milestones.save(), portB: portB.save(), testPorts: testPorts.save(), testLines: testLines.save(),
      testMemory: testMemory.save(), firmware: firmware.save())
  }

  /// Each by itself, so that one that is refused keeps none of the others away.
  /// - Returns: how many were refused.
  func restore(_ saved: Saved, change: (any SavedState) throws -> (any SavedState)?) throws -> Int {
    var refusals = 0
    func restore<Device: Restorable>(_ device: Device, _ state: Device.Saved) throws where Device.Saved: SavedState {
      guard let changed = try change(state) as? Device.Saved else { return }
      do throws(RestoreFailure) {
        try device.restore(changed)
      } catch {
        #expect(!error.description.isEmpty)
        refusals += 1
      }
    }
    try restore(serial, saved.serial)
    try restore(keyboard, saved.keyboard)
    try restore(clock, saved.clock)
    try restore(diagnostic, saved.diagnostic)
    try restore(panic, saved.panic)
    try restore(configuration, saved.configuration)
    try restore(power, saved.power)
    try restore(timer, saved.timer)
    try restore(milestones, saved.milestones)
    try restore(portB, saved.portB)
    try restore(testPorts, saved.testPorts)
    try restore(testLines, saved.testLines)
    try restore(testMemory, saved.testMemory)
    try restore(firmware, saved.firmware)
    return refusals
  }

  private static let ports: [UInt16] = [
    0x60, 0x61, 0x64, 0x70, 0x71, 0x80, 0x3f8, 0x3f9, 0x3fa, 0x3fb, 0x3fc, 0x3fd, 0x3fe, 0x3ff, 0x505, 0x5f4, 0x600,
    0x602, 0x604, 0x608, 0xcf8, 0xcf9, 0xcfc, 0xe1, 0xe9, 0x200e, 0x511,
  ]

  /// One access, or what comes from outside. What it gave.
  func act(_ bits: UInt64) -> UInt32 {
    let port = Self.ports[Int(bits >> 8) % Self.ports.count]
    let width = AccessWidth.allCases[Int(bits >> 4 & 1) * (port == 0xcf8 || port == 0x608 ? 2 : 0)]
    switch bits & 15 {
    case 0: time.advance(bits >> 32)
    case 1: return UInt32(serial.receive([UInt8(truncatingIfNeeded: bits >> 16)]))
    case 2: return power.pressPowerButton() ? 1 : 0
    case 3: clock.look()
    case 4...9: _ = bus.writePort(port, UInt32(truncatingIfNeeded: bits >> 24), width: width)
    default:
      let value = bus.readPort(port, width: width)
      // The refresh toggle is the host's clock.
      return port == 0x61 ? value & ~0x10 : value
    }
    return 0
  }

  var levels: [Bool] { Self.lines.map { controller.level($0) } }
}

@Suite("Saved platform devices")
struct SavedPlatformTests {
  @Test(
    "a device that was saved and restored in the middle goes on like the one before",
    arguments: 1...20 as ClosedRange<UInt64>)
  func roundTrip(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    let first = try Platform(start: 1_000_000_000_000)
    for _ in 0..<3000 { _ = first.act(generator.next()) }
    let second = try Platform(start: 5_000_000)
    second.time.day.store(first.time.day.load(ordering: .relaxed), ordering: .relaxed)
    let saved = first.save()
    #expect(
      try second.restore(saved) { state in
        func pass<State: SavedState>(_ state: State) throws -> any SavedState { try throughJSON(state) }
        return try pass(state)
      } == 0)
    first.clock.look()
    #expect(second.levels == first.levels)
    let printed = first.sink.bytes.count
    for step in 0..<3000 {
      let bits = generator.next()
      let (one, other) = (first.act(bits), second.act(bits))
      #expect(one == other, "step \(step): \(hexadecimal(bits))")
      #expect(first.levels == second.levels, "step \(step): \(hexadecimal(bits))")
      if one != other { break }
    }
    #expect(second.sink.bytes == Array(first.sink.bytes[printed...]))
    #expect(second.panic.events == first.panic.events)
    #expect(second.milestones.milestones.map(\.value) == first.milestones.milestones.map(\.value))
  }

  @Test("nothing in a spoiled state makes a device trap", arguments: 1...8 as ClosedRange<UInt64>)
  func hostile(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    let first = try Platform(start: 1_000_000_000_000)
    var refusals = 0
    for _ in 0..<60 {
      for _ in 0..<200 { _ = first.act(generator.next()) }
      let second = try Platform(start: 5_000_000)
      refusals += try second.restore(first.save()) { state in
        func pass<State: SavedState>(_ state: State) throws -> (any SavedState)? {
          try spoiled(state, using: &generator)
        }
        return try pass(state)
      }
      for _ in 0..<200 { _ = second.act(generator.next()) }
    }
    #expect(refusals > 20)
  }

  @Test("a console's panic is still known when it was half said")
  func consoleWatch() throws {
    let text = Array("[1.0] Kernel panic - not syncing: out of tea\n".utf8)
    for split in 0..<text.count {
      let (first, second) = (ConsoleWatch(MemorySink()), ConsoleWatch(MemorySink()))
      text[..<split].withUnsafeBytes { first.write($0) }
      try second.restore(throughJSON(first.save()))
      text[split...].withUnsafeBytes { second.write($0) }
      #expect(second.panic == KernelPanic(reason: "out of tea"))
    }
  }

  @Test("another form's number is refused with a sentence")
  func version() throws {
    let data = Data(#"{"version": 99, "state": {}}"#.utf8)
    let failure = #expect(throws: RestoreFailure.self) {
      try JSONDecoder().decode(Versioned<SerialPort16550.Saved>.self, from: data)
    }
    #expect(failure?.description.contains("the form 99") ?? false)
  }

  @Test("a guest that adds centuries to its clock again and again gets no further than the chip's digits")
  func centuries() throws {
    let platform = try Platform(start: 1)
    platform.bus.outb(0x70, 0x0b)
    platform.bus.outb(0x71, 0x06)
    for _ in 0..<2000 {
      platform.bus.outb(0x70, 0x09)
      platform.bus.outb(0x71, 0xff)
    }
    #expect(try throughJSON(platform.clock.save()).registers.offsetSeconds < 1 << 40)
  }

  @Test("devices without state have a form too")
  func stateless() throws {
    let (exit, code) = (DebugExit(), ExitCodeRegister())
    try exit.restore(throughJSON(exit.save()))
    try code.restore(throughJSON(code.save()))
    #expect(exit.write(5, at: 0, width: .byte) == .stop(.exited(code: 5)))
  }
}
