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
  private let configurationPorts = PCIConfigurationPorts(resetControl: ResetControl())

  init(_ configuration: VirtualMachineConfiguration, memory: GuestMemory, router: InterruptRouter) {
    let above = memory.regions.dropFirst().reduce(0) { $0 + $1.size }
    clock = CMOSClock(
      memoryBelow4GiB: memory.regions[0].size, memoryAbove4GiB: above,
      interrupt: InterruptLine(CMOSClock.conventionalInterrupt, router: router))
    debugExit = DebugExit(encoding: configuration.usesQEMUExitCodes ? .qemu : .raw)
    power = PowerManagementPorts(
      interrupt: InterruptLine(PowerManagementPorts.conventionalInterrupt, router: router))
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
      .init("debug exit", base: DebugExit.conventionalPort, count: DebugExit.portCount, device: debugExit),
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
