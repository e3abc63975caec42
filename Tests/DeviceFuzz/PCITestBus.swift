import TrivisorDevices
import TrivisorVMM

/// A bus with nothing but PCI on it, and virtio devices from number 1 on: what drivers in tests find.
package struct PCITestBus {
  package static let window: UInt64 = 0xd800_0000
  package static let windowSize: UInt64 = 0x0800_0000
  /// Where the configuration space begins.
  package static let configuration: UInt64 = 0xe000_0000
  package static let lines = 16...19

  package let devices: [VirtioPCI]
  package let pins: PCIInterruptPins
  package let bus: Bus

  /// - Parameters:
  ///   - types: one device after the other.
  ///   - controller: gets lines and messages.
  ///   - usesWorker: devices have threads.
  package init(
    _ types: [any VirtioDevice], memory: GuestMemory, controller: any InterruptController, usesWorker: Bool
  ) throws {
    let router = InterruptRouter()
    router.connect(controller)
    let map = PCIMemoryMap(base: UInt32(Self.window), size: UInt32(Self.windowSize))
    let pins = PCIInterruptPins(Self.lines.map { InterruptLine($0, router: router) })
    self.pins = pins
    devices = try types.enumerated().map { index, type in
      try VirtioPCI(
        type, memory: memory, at: PCIAddress(device: 1 + index, function: 0), hasSiblings: false, map: map,
        place: UInt32(Self.window) + UInt32(index) * VirtioPCI.windowShare, pins: pins, router: router,
        usesWorker: usesWorker)
    }
    let functions = devices.enumerated().map { (PCIAddress(device: 1 + $0.offset, function: 0), $0.element) }
    let pci = PCIBus(Dictionary(uniqueKeysWithValues: functions), map: map)
    bus = try Bus(
      ports: [.init("PCI", base: 0xcf8, count: 8, device: PCIConfigurationPorts(bus: pci))],
      memory: [
        .init("window", base: GuestPhysicalAddress(Self.window), size: Self.windowSize, device: pci.memoryWindow),
        .init(
          "configuration", base: GuestPhysicalAddress(Self.configuration), size: PCIBus.extendedConfigurationSize,
          device: pci.extendedConfiguration),
      ])
  }
}
