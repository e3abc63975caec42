import TrivisorDevices
import TrivisorVMM

/// What test kernels expect of the machine that they were written for, beside the debug exit: QEMU's `pc-testdev` and its firmware
/// configuration.
final class TestDevices: Sendable {
  private let ports = TestPorts()
  private let lines: TestInterruptLines
  private let memory = TestMemory()
  private let firmware: FirmwareConfiguration

  init(_ configuration: PlatformConfiguration, router: InterruptRouter) {
    lines = TestInterruptLines(router: router)
    firmware = FirmwareConfiguration(
      processorCount: configuration.machine.processorCount, memorySize: configuration.machine.memorySize)
  }

  var portClaims: [Bus.PortClaim] {
    [
      .init("test ports", base: TestPorts.conventionalPort, count: TestPorts.portCount, device: ports),
      .init(
        "test interrupt lines", base: TestInterruptLines.conventionalPort, count: TestInterruptLines.portCount,
        device: lines),
      .init(
        "firmware configuration", base: FirmwareConfiguration.conventionalPort,
        count: FirmwareConfiguration.portCount, device: firmware),
    ]
  }

  var memoryClaims: [Bus.MemoryClaim] {
    [.init("test memory", base: TestMemory.conventionalAddress, size: TestMemory.size, device: memory)]
  }
}

extension TestDevices: Restorable {
  /// Each of them.
  struct Saved: Codable, Sendable, Equatable {
    var ports: Versioned<TestPorts.Saved>
    var lines: Versioned<TestInterruptLines.Saved>
    var memory: Versioned<TestMemory.Saved>
    var firmware: Versioned<FirmwareConfiguration.Saved>
  }

  func save() -> Saved {
    Saved(
      ports: Versioned(ports.save()), lines: Versioned(lines.save()), memory: Versioned(memory.save()),
      firmware: Versioned(firmware.save()))
  }

  /// One that is refused leaves those before it restored: the machine is then no good.
  func restore(_ saved: Saved) throws(RestoreFailure) {
    try ports.restore(saved.ports.state)
    try lines.restore(saved.lines.state)
    try memory.restore(saved.memory.state)
    try firmware.restore(saved.firmware.state)
  }
}
