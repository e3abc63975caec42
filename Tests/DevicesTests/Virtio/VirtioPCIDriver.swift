import Testing
import TrivisorDeviceFuzz
import TrivisorVMM

@testable import TrivisorDevices

/// The driver's side of virtio devices on a PCI bus: it finds what it needs by the capabilities.
final class VirtioPCIDriver: RingDriver {
  static let window = PCITestBus.window
  static let extended = PCITestBus.configuration

  enum Common {
    static let featuresSelect: UInt64 = 0x00, features: UInt64 = 0x04
    static let acceptedSelect: UInt64 = 0x08, accepted: UInt64 = 0x0c
    static let configurationVector: UInt64 = 0x10, queueCount: UInt64 = 0x12
    static let status: UInt64 = 0x14, queueSelect: UInt64 = 0x16, queueSize: UInt64 = 0x18
    static let queueVector: UInt64 = 0x1a, queueEnable: UInt64 = 0x1c, notificationOffset: UInt64 = 0x1e
    static let descriptors: UInt64 = 0x20, available: UInt64 = 0x28, used: UInt64 = 0x30
  }

  let memory: GuestMemory
  let devices: [VirtioPCI]
  let controller = RecordingController()
  let pins: PCIInterruptPins
  let bus: Bus
  /// The first device's.
  let address = PCIAddress(device: 1, function: 0)

  var device: VirtioPCI { devices[0] }

  /// - Parameter siblings: further devices, at the next numbers.
  init(_ types: any VirtioDevice..., usesWorker: Bool = false, memorySize: UInt64 = 2 << 20) throws {
    memory = try GuestMemory(size: memorySize)
    let made = try PCITestBus(types, memory: memory, controller: controller, usesWorker: usesWorker)
    (devices, pins, bus) = (made.devices, made.pins, made.bus)
  }

  // MARK: Configuration

  private func place(_ offset: Int, _ device: Int) -> GuestPhysicalAddress {
    GuestPhysicalAddress(Self.extended + UInt64(device) << 15 + UInt64(offset))
  }

  func configuration(_ offset: Int, width: AccessWidth = .doubleword, device: Int = 1) -> UInt64 {
    bus.readMemory(place(offset, device), width: width)
  }

  func setConfiguration(_ offset: Int, _ value: UInt64, width: AccessWidth = .doubleword, device: Int = 1) {
    _ = bus.writeMemory(place(offset, device), value, width: width)
  }

  /// Through the ports.
  func portConfiguration(_ offset: Int, width: AccessWidth = .doubleword, device: Int = 1) -> UInt64 {
    _ = bus.writePort(0xcf8, 0x8000_0000 | UInt32(device) << 11 | UInt32(offset & 0xfc), width: .doubleword)
    return UInt64(bus.readPort(0xcfc + UInt16(offset & 3), width: width))
  }

  /// Where each capability is, by its type, and those of the vendor's kind by their structures.
  func capabilities(device: Int = 1) -> (types: [UInt64: Int], structures: [UInt64: Int]) {
    var types: [UInt64: Int] = [:]
    var structures: [UInt64: Int] = [:]
    var next = Int(configuration(0x34, width: .byte, device: device))
    for _ in 0..<20 where next != 0 {
      let type = configuration(next, width: .byte, device: device)
      types[type] = next
      if type == 9 { structures[configuration(next + 3, width: .byte, device: device)] = next }
      next = Int(configuration(next + 1, width: .byte, device: device))
    }
    return (types, structures)
  }

  /// Memory and bus master, as a driver enables them.
  func enable(device: Int = 1) { setConfiguration(4, 6, width: .word, device: device) }

  // MARK: Structures

  private func base(_ structure: UInt64, device: Int) -> UInt64 {
    guard let capability = capabilities(device: device).structures[structure] else {
      Issue.record("no structure \(structure)")
      return 0
    }
    let region = Int(configuration(capability + 4, width: .byte, device: device))
    return configuration(0x10 + 4 * region, device: device) & ~0xf + configuration(capability + 8, device: device)
  }

  func read(_ register: UInt64, width: AccessWidth, structure: UInt64 = 1, device: Int = 1) -> UInt64 {
    bus.readMemory(GuestPhysicalAddress(base(structure, device: device) + register), width: width)
  }

  func write(_ register: UInt64, _ value: UInt64, width: AccessWidth, structure: UInt64 = 1, device: Int = 1) {
    _ = bus.writeMemory(GuestPhysicalAddress(base(structure, device: device) + register), value, width: width)
  }

  /// The interrupt's reasons, which are gone then.
  func reasons(device: Int = 1) -> UInt64 { read(0, width: .byte, structure: 3, device: device) }

  func status(device: Int = 1) -> UInt64 { read(Common.status, width: .byte, device: device) }

  func setStatus(_ value: UInt64, device: Int = 1) { write(Common.status, value, width: .byte, device: device) }

  func open(_ queues: [RingPlace], features: VirtioFeatures = [], device: Int = 1, vector: UInt64? = nil) {
    setStatus(0, device: device)
    setStatus(1, device: device)
    setStatus(3, device: device)
    let accepted = features.union(.version1).rawValue
    for half: UInt64 in 0...1 {
      write(Common.acceptedSelect, half, width: .doubleword, device: device)
      write(Common.accepted, accepted >> (32 * half) & 0xffff_ffff, width: .doubleword, device: device)
    }
    setStatus(11, device: device)
    for queue in queues {
      write(Common.queueSelect, UInt64(queue.index), width: .word, device: device)
      write(Common.queueSize, UInt64(queue.size), width: .word, device: device)
      write(Common.descriptors, queue.descriptors, width: .quadword, device: device)
      write(Common.available, queue.available & 0xffff_ffff, width: .doubleword, device: device)
      write(Common.available + 4, queue.available >> 32, width: .doubleword, device: device)
      write(Common.used, queue.used, width: .quadword, device: device)
      if let vector { write(Common.queueVector, vector, width: .word, device: device) }
      write(Common.queueEnable, 1, width: .word, device: device)
    }
    setStatus(15, device: device)
  }

  func notify(_ queue: Int, device: Int = 1) {
    guard let capability = capabilities(device: device).structures[2] else { return }
    let stride = configuration(capability + 16, device: device)
    write(Common.queueSelect, UInt64(queue), width: .word, device: device)
    let offset = read(Common.notificationOffset, width: .word, device: device)
    write(offset * stride, UInt64(queue), width: .word, structure: 2, device: device)
  }

  func run(_ queue: Int = 0) {
    notify(queue)
    device.processQueues()
  }

  /// Which line the first device's pin is wired to.
  var line: Int { pins.line(of: address, pin: 1) ?? 0 }

  // MARK: Messages

  func entry(_ vector: UInt64, address: UInt64, data: UInt64, isMasked: Bool) {
    let table = configuration(0x14) & ~0xf + 16 * vector
    for (offset, value) in [(0, address & 0xffff_ffff), (4, address >> 32), (8, data), (12, isMasked ? 1 : 0)] {
      _ = bus.writeMemory(GuestPhysicalAddress(table + UInt64(offset)), value, width: .doubleword)
    }
  }

  /// Message control: enabled, and all masked or not.
  func enableMessages(isMasked: Bool = false) {
    guard let capability = capabilities().types[0x11] else {
      Issue.record("no MSI-X")
      return
    }
    setConfiguration(capability + 2, 0x8000 | (isMasked ? 0x4000 : 0), width: .word)
  }

  var pendingMessages: UInt64 {
    let table = configuration(0x14) & ~0xf
    return bus.readMemory(GuestPhysicalAddress(table + 0x800), width: .quadword)
  }
}
