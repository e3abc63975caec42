import TrivisorDevices
import TrivisorVMM

/// How a guest reaches virtio devices.
public enum VirtioTransportKind: String, Sendable, Hashable, CaseIterable {
  /// Pages of registers, which ACPI tables name. A kernel finds them sooner.
  case mmio
  /// Functions of a PCI bus, with MSI-X.
  case pci
}

/// A machine's virtio devices, on the bus of its choice.
final class VirtioBus: Sendable {
  /// The PCI bus that they are on, if they are.
  let bus: PCIBus?
  private let overMMIO: [VirtioMMIO]
  private let overPCI: [VirtioPCI]
  /// In the order in which the guest finds them.
  let transports: [any VirtioTransport]

  /// - Throws: `DeviceFailure` when the host does not give what a device needs.
  init(
    _ devices: [any VirtioDevice], over kind: VirtioTransportKind, memory: GuestMemory, router: InterruptRouter
  ) throws(DeviceFailure) {
    var overMMIO: [VirtioMMIO] = []
    var overPCI: [VirtioPCI] = []
    switch kind {
    case .mmio:
      for (index, device) in devices.enumerated() {
        let line = InterruptLine(VirtioPlaces.line(index), router: router)
        overMMIO.append(try VirtioMMIO(device, memory: memory, interrupt: line))
      }
      bus = nil
    case .pci:
      let map = PCIMemoryMap(base: VirtioPlaces.windowBase, size: VirtioPlaces.windowSize)
      let pins = VirtioPlaces.pins(router)
      var functions: [PCIAddress: any PCIFunction] = [:]
      for (index, device) in devices.enumerated() {
        let address = VirtioPlaces.function(index)
        let function = try VirtioPCI(
          device, memory: memory, at: address, hasSiblings: VirtioPlaces.hasSiblings(index, of: devices.count),
          map: map, place: VirtioPlaces.region(index), pins: pins, router: router)
        overPCI.append(function)
        functions[address] = function
      }
      bus = PCIBus(functions, map: map)
    }
    self.overMMIO = overMMIO
    self.overPCI = overPCI
    transports = overMMIO + overPCI
  }

  /// What the devices answer.
  var claims: [Bus.MemoryClaim] {
    let devices = overMMIO.enumerated().map { index, device in
      Bus.MemoryClaim("virtio \(index)", base: VirtioPlaces.address(index), size: VirtioMMIO.size, device: device)
    }
    guard let bus else { return devices }
    return devices + [
      Bus.MemoryClaim(
        "PCI", base: GuestPhysicalAddress(UInt64(bus.map.base)), size: UInt64(bus.map.size), device: bus.memoryWindow),
      Bus.MemoryClaim(
        "PCI configuration", base: GuestPhysicalAddress(VirtioPlaces.configurationBase),
        size: PCIBus.extendedConfigurationSize, device: bus.extendedConfiguration),
    ]
  }

  /// Lets notifications, and over MMIO interrupts, go through eventfds.
  /// - Throws: `TechniqueFailure` when the host refuses.
  func bind(_ binding: any EventBinding) throws(TechniqueFailure) {
    for (index, device) in overMMIO.enumerated() { try device.bind(binding, at: VirtioPlaces.address(index)) }
    for device in overPCI { device.bind(binding) }
  }

  /// What the ACPI tables say of them.
  static func describe(_ count: Int, over kind: VirtioTransportKind, in machine: inout ACPIMachine) {
    switch kind {
    case .mmio:
      machine.virtioDevices = (0..<count).map { index in
        ACPIMachine.VirtioDevice(
          base: UInt32(truncatingIfNeeded: VirtioPlaces.address(index).rawValue), size: UInt32(VirtioMMIO.size),
          interrupt: VirtioPlaces.line(index))
      }
    case .pci:
      // The wiring is that of any such bus.
      let pins = VirtioPlaces.pins(InterruptRouter())
      var host = ACPIMachine.PCIHost(
        configurationBase: VirtioPlaces.configurationBase, windowBase: VirtioPlaces.windowBase,
        windowSize: VirtioPlaces.windowSize)
      for device in Set((0..<count).map { VirtioPlaces.function($0).device }).sorted() {
        for pin in UInt8(1)...4 {
          let address = PCIAddress(device: device, function: 0)
          guard let line = pins.line(of: address, pin: pin) else { continue }
          host.interrupts.append(.init(device: device, pin: pin, interrupt: line))
        }
      }
      machine.pciHost = host
    }
  }
}

extension VirtioBus: Restorable {
  /// Of each device; either list is empty.
  struct Saved: Codable, Sendable, Equatable {
    var overMMIO: [Versioned<VirtioMMIO.Saved>]
    var overPCI: [Versioned<VirtioPCI.Saved>]
  }

  /// Keeps the devices from their queues; to be followed by `release`.
  func hold() { for transport in transports { transport.hold() } }

  /// Ends a `hold`.
  func release() { for transport in transports { transport.release() } }

  /// Between `hold` and `release`, with the processors standing.
  func save() -> Saved {
    Saved(overMMIO: overMMIO.map { Versioned($0.save()) }, overPCI: overPCI.map { Versioned($0.save()) })
  }

  /// One that is refused leaves those before it restored: the machine is then no good.
  func restore(_ saved: Saved) throws(RestoreFailure) {
    try restoring(
      "machine", requires: saved.overMMIO.count == overMMIO.count && saved.overPCI.count == overPCI.count,
      "it has \(saved.overMMIO.count) virtio devices over MMIO and \(saved.overPCI.count) over PCI, and the "
        + "configuration says \(overMMIO.count) and \(overPCI.count)")
    for (device, state) in zip(overMMIO, saved.overMMIO) { try device.restore(state.state) }
    for (device, state) in zip(overPCI, saved.overPCI) { try device.restore(state.state) }
  }
}
