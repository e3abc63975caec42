import TrivisorDevices
import TrivisorVMM

/// The PC's devices that every machine has, at their ports.
final class StandardPorts: Sendable {
  let panicPort = PVPanic()
  let milestonePort = MilestonePort()
  private let keyboard = KeyboardController()
  private let clock: CMOSClock
  private let diagnosticPort = DiagnosticPort()
  private let debugExit: DebugExit
  private let exitCodeRegister = ExitCodeRegister()
  private let power: PowerManagementPorts
  private let powerTimer = PowerManagementTimer()
  /// Port 0xcf9, reset control, lies within the eight configuration ports, which pass it on.
  private let configurationPorts: PCIConfigurationPorts

  private let debugExitPort: UInt16

  /// - Parameter bus: the PCI bus, if there is one.
  init(_ configuration: PlatformConfiguration, memory: GuestMemory, router: InterruptRouter, bus: PCIBus?) {
    configurationPorts = PCIConfigurationPorts(resetControl: ResetControl(), bus: bus)
    let above = memory.regions.dropFirst().reduce(0) { $0 + $1.size }
    clock = CMOSClock(
      memoryBelow4GiB: memory.regions[0].size, memoryAbove4GiB: above,
      interrupt: InterruptLine(CMOSClock.conventionalInterrupt, router: router))
    debugExitPort = configuration.debugExitPort
    debugExit = DebugExit(encoding: configuration.usesQEMUExitCodes ? .qemu : .raw)
    power = PowerManagementPorts(
      interrupt: InterruptLine(PowerManagementPorts.conventionalInterrupt, router: router))
  }

  /// What else a PC has at ports, the technique's chips and all serial ports that there can be among it.
  private static let others: [(title: String, base: UInt16, count: UInt16)] =
    [
      ("an interrupt controller", 0x20, 2), ("an interrupt controller", 0xa0, 2),
      ("the interrupt controllers' edge or level register", 0x4d0, 2), ("the interval timer", 0x40, 4),
      ("the timer's gate", SystemControlPortB.conventionalPort, SystemControlPortB.portCount),
      ("the keyboard controller", KeyboardController.conventionalDataPort, KeyboardController.portCount),
      ("the keyboard controller", KeyboardController.conventionalCommandPort, KeyboardController.portCount),
      ("the clock", CMOSClock.conventionalPort, CMOSClock.portCount),
      ("the port for POST codes", DiagnosticPort.conventionalPort, DiagnosticPort.portCount),
      ("pvpanic", PVPanic.conventionalPort, PVPanic.portCount),
      ("the exit-code register", ExitCodeRegister.conventionalPort, ExitCodeRegister.portCount),
      ("the port for milestones", MilestonePort.conventionalPort, MilestonePort.portCount),
      ("the port for calls of firmware", FirmwareCallPort.conventionalPort, FirmwareCallPort.portCount),
      ("power management", PowerManagementPorts.conventionalPort, PowerManagementPorts.portCount),
      ("the power management timer", PowerManagementTimer.conventionalPort, PowerManagementTimer.portCount),
      ("PCI configuration", PCIConfigurationPorts.conventionalPort, PCIConfigurationPorts.portCount),
      ("a test device", TestPorts.conventionalPort, TestPorts.portCount),
      ("a test device", TestInterruptLines.conventionalPort, TestInterruptLines.portCount),
      ("the firmware configuration", FirmwareConfiguration.conventionalPort, FirmwareConfiguration.portCount),
    ] + SerialPortConfiguration.places.map { ("a serial port", $0.port, SerialPort16550.portCount) }

  /// What has one of the ports that the debug exit would have; the ports' end, if there are not enough.
  static func neighbour(ofDebugExitAt port: UInt16) -> String? {
    guard port <= UInt16.max - (DebugExit.portCount - 1) else { return "the ports' end" }
    let wanted = port...(port + DebugExit.portCount - 1)
    return others.first { wanted.overlaps($0.base...($0.base + $0.count - 1)) }?.title
  }

  var claims: [Bus.PortClaim] {
    [
      .init(
        "keyboard controller, data", base: KeyboardController.conventionalDataPort,
        count: KeyboardController.portCount, device: keyboard.dataPort),
      .init(
        "keyboard controller, commands", base: KeyboardController.conventionalCommandPort,
        count: KeyboardController.portCount, device: keyboard.commandPort),
      .init("clock", base: CMOSClock.conventionalPort, count: CMOSClock.portCount, device: clock),
      .init(
        "POST codes", base: DiagnosticPort.conventionalPort, count: DiagnosticPort.portCount, device: diagnosticPort),
      .init("debug exit", base: debugExitPort, count: DebugExit.portCount, device: debugExit),
      .init("pvpanic", base: PVPanic.conventionalPort, count: PVPanic.portCount, device: panicPort),
      .init(
        "exit-code register", base: ExitCodeRegister.conventionalPort, count: ExitCodeRegister.portCount,
        device: exitCodeRegister),
      .init(
        "milestones", base: MilestonePort.conventionalPort, count: MilestonePort.portCount, device: milestonePort),
      .init(
        "calls of firmware", base: FirmwareCallPort.conventionalPort, count: FirmwareCallPort.portCount,
        device: FirmwareCallPort()),
      .init(
        "power management", base: PowerManagementPorts.conventionalPort, count: PowerManagementPorts.portCount,
        device: power),
      .init(
        "power management timer", base: PowerManagementTimer.conventionalPort, count: PowerManagementTimer.portCount,
        device: powerTimer),
      .init(
        "PCI configuration", base: PCIConfigurationPorts.conventionalPort, count: PCIConfigurationPorts.portCount,
        device: configurationPorts),
    ]
  }
}

extension StandardPorts: Restorable {
  /// Each of them.
  struct Saved: Codable, Sendable, Equatable {
    var panicPort: Versioned<PVPanic.Saved>
    var milestonePort: Versioned<MilestonePort.Saved>
    var keyboard: Versioned<KeyboardController.Saved>
    var clock: Versioned<CMOSClock.Saved>
    var diagnosticPort: Versioned<DiagnosticPort.Saved>
    var debugExit: Versioned<DebugExit.Saved>
    var exitCodeRegister: Versioned<ExitCodeRegister.Saved>
    var power: Versioned<PowerManagementPorts.Saved>
    var powerTimer: Versioned<PowerManagementTimer.Saved>
    var configurationPorts: Versioned<PCIConfigurationPorts.Saved>
  }

  func save() -> Saved {
    Saved(
      panicPort: Versioned(panicPort.save()), milestonePort: Versioned(milestonePort.save()),
      keyboard: Versioned(keyboard.save()), clock: Versioned(clock.save()),
      diagnosticPort: Versioned(diagnosticPort.save()), debugExit: Versioned(debugExit.save()),
      exitCodeRegister: Versioned(exitCodeRegister.save()), power: Versioned(power.save()),
      powerTimer: Versioned(powerTimer.save()), configurationPorts: Versioned(configurationPorts.save()))
  }

  /// One that is refused leaves those before it restored: the machine is then no good.
  func restore(_ saved: Saved) throws(RestoreFailure) {
    try panicPort.restore(saved.panicPort.state)
    try milestonePort.restore(saved.milestonePort.state)
    try keyboard.restore(saved.keyboard.state)
    try clock.restore(saved.clock.state)
    try diagnosticPort.restore(saved.diagnosticPort.state)
    try debugExit.restore(saved.debugExit.state)
    try exitCodeRegister.restore(saved.exitCodeRegister.state)
    try power.restore(saved.power.state)
    try powerTimer.restore(saved.powerTimer.state)
    try configurationPorts.restore(saved.configurationPorts.state)
  }
}
