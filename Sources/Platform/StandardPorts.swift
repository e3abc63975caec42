import Devices
import VMM

/// The PC's devices that every machine has, at their ports.
enum StandardPorts {
  static func claims(
    _ configuration: VirtualMachineConfiguration, memory: GuestMemory, router: InterruptRouter, panicPort: PVPanic,
    milestonePort: MilestonePort
  ) -> [Bus.PortClaim] {
    let powerInterrupt = InterruptLine(PowerManagementPorts.conventionalInterrupt, router: router)
    let keyboard = KeyboardController()
    let reset = ResetControl()
    let above = memory.regions.dropFirst().reduce(0) { $0 + $1.size }
    let clock = CMOSClock(
      memoryBelow4GiB: memory.regions[0].size, memoryAbove4GiB: above,
      interrupt: InterruptLine(CMOSClock.conventionalInterrupt, router: router))
    let debugExit = DebugExit(encoding: configuration.usesQEMUExitCodes ? .qemu : .raw)
    return [
      .init(
        "keyboard controller, data", base: KeyboardController.conventionalDataPort,
        count: KeyboardController.portCount, device: keyboard.dataPort),
      .init(
        "keyboard controller, commands", base: KeyboardController.conventionalCommandPort,
        count: KeyboardController.portCount, device: keyboard.commandPort),
      .init("clock", base: CMOSClock.conventionalPort, count: CMOSClock.portCount, device: clock),
      .init(
        "POST codes", base: DiagnosticPort.conventionalPort, count: DiagnosticPort.portCount,
        device: DiagnosticPort()),
      .init("debug exit", base: DebugExit.conventionalPort, count: DebugExit.portCount, device: debugExit),
      .init("pvpanic", base: PVPanic.conventionalPort, count: PVPanic.portCount, device: panicPort),
      .init(
        "exit-code register", base: ExitCodeRegister.conventionalPort, count: ExitCodeRegister.portCount,
        device: ExitCodeRegister()),
      .init(
        "milestones", base: MilestonePort.conventionalPort, count: MilestonePort.portCount, device: milestonePort),
      .init(
        "calls of firmware", base: FirmwareCallPort.conventionalPort, count: FirmwareCallPort.portCount,
        device: FirmwareCallPort()),
      .init(
        "power management", base: PowerManagementPorts.conventionalPort, count: PowerManagementPorts.portCount,
        device: PowerManagementPorts(interrupt: powerInterrupt)),
      .init(
        "power management timer", base: PowerManagementTimer.conventionalPort, count: PowerManagementTimer.portCount,
        device: PowerManagementTimer()),
      // Port 0xcf9, reset control, lies within the eight configuration ports, which pass it on.
      .init(
        "PCI configuration", base: PCIConfigurationPorts.conventionalPort, count: PCIConfigurationPorts.portCount,
        device: PCIConfigurationPorts(resetControl: reset)),
    ]
  }
}
