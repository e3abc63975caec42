import Synchronization
import TrivisorDevices
import TrivisorVMM

/// Counts messages, which is all that becomes of them.
final class MessageCounter: InterruptController {
  private let number = Atomic<Int>(0)
  var count: Int { number.load(ordering: .relaxed) }
  func setLine(_ line: Int, asserted: Bool) {}
  func deliver(_ message: InterruptMessage) { number.add(1, ordering: .relaxed) }
}

/// Devices on a PCI bus of their own, whose first is driven. Its regions are wherever they were put.
final class PCIMachine: FuzzMachine {
  static let window = PCITestBus.window
  static let windowSize = PCITestBus.windowSize
  static let configuration = PCITestBus.configuration
  /// A device's bits in an address of the configuration space (PCI Express 5.0, 7.2.2).
  static let deviceShift: UInt64 = 15

  /// Offsets in a function's configuration space.
  enum Register {
    static let command: UInt64 = 0x04
    static let structures: UInt64 = 0x10
    static let messages: UInt64 = 0x14
    static let capabilities: UInt64 = 0x34
  }

  /// Offsets in the structures' region (virtio 1.2, 4.1.4.3; where they are is `VirtioPCI`'s to say).
  private enum Structure {
    static let acceptedSelect: UInt64 = 0x08, accepted: UInt64 = 0x0c, configurationVector: UInt64 = 0x10
    static let status: UInt64 = 0x14, queueSelect: UInt64 = 0x16, queueSize: UInt64 = 0x18, queueVector: UInt64 = 0x1a
    static let queueEnable: UInt64 = 0x1c, descriptors: UInt64 = 0x20, available: UInt64 = 0x28, used: UInt64 = 0x30
    static let reasons: UInt64 = 0x1000, notification: UInt64 = 0x3000, end: UInt64 = 0x4000
  }

  private static let tables = Structure.descriptors..<(Structure.used + 8)

  let memory: GuestMemory
  let bus: Bus
  let messages = MessageCounter()
  private let devices: [VirtioPCI]
  private var device: VirtioPCI { devices[0] }
  /// Where MSI-X's message control is.
  private let messageControl: UInt64

  init(_ types: [any VirtioDevice], memory: GuestMemory) throws {
    self.memory = memory
    let made = try PCITestBus(types, memory: memory, controller: messages, usesWorker: false)
    (devices, bus) = (made.devices, made.bus)
    // The first capability of `VirtioPCI`.
    messageControl =
      bus.readMemory(GuestPhysicalAddress(Self.configurationPlace(Register.capabilities)), width: .byte) + 2
  }

  static func configurationPlace(_ register: UInt64, device: UInt64 = 1) -> UInt64 {
    configuration + device << deviceShift + register
  }

  var fault: VirtioFault? { device.fault }
  var usedIndices: [UInt16?] { device.usedIndices }
  var status: UInt64 { read(Structure.status, .byte) }

  func read(_ place: UInt64, _ width: AccessWidth) -> UInt64 {
    bus.readMemory(GuestPhysicalAddress(Self.window + place), width: width)
  }

  func write(_ place: UInt64, _ value: UInt64, _ width: AccessWidth) {
    _ = bus.writeMemory(GuestPhysicalAddress(Self.window + place), value, width: width)
  }

  func configure(_ register: UInt64, _ value: UInt64, _ width: AccessWidth, device: UInt64 = 1) {
    _ = bus.writeMemory(GuestPhysicalAddress(Self.configurationPlace(register, device: device)), value, width: width)
  }

  func negotiate(_ features: VirtioFeatures, _ random: inout FuzzRandom) {
    // The others out of the way, and the regions where the rest of this looks for them.
    for other in devices.indices {
      let base = Self.window + UInt64(other) * UInt64(VirtioPCI.windowShare)
      configure(Register.command, 0, .word, device: UInt64(1 + other))
      configure(Register.structures, base, .doubleword, device: UInt64(1 + other))
      configure(Register.messages, base + Structure.end, .doubleword, device: UInt64(1 + other))
    }
    // Memory and bus master.
    configure(Register.command, 6, .word)
    configure(messageControl, random.pick([0x8000, 0x8000, 0xc000, 0]), .word)
    write(Structure.status, 0, .byte)
    write(Structure.status, DriverStatus.acknowledge, .byte)
    write(Structure.status, DriverStatus.acknowledge | DriverStatus.driver, .byte)
    for half: UInt64 in 0...1 {
      write(Structure.acceptedSelect, half, .doubleword)
      write(Structure.accepted, features.rawValue >> (32 * half) & 0xffff_ffff, .doubleword)
    }
    write(Structure.configurationVector, random.number(below: 4 as UInt64), .word)
    write(Structure.status, DriverStatus.all & ~DriverStatus.driverOK, .byte)
  }

  func place(_ queue: QueuePlace, _ random: inout FuzzRandom) {
    write(Structure.queueSelect, UInt64(queue.index), .word)
    write(Structure.queueSize, UInt64(queue.size), .word)
    write(Structure.descriptors, queue.descriptors, .quadword)
    write(Structure.available, queue.available & 0xffff_ffff, .doubleword)
    write(Structure.available + 4, queue.available >> 32, .doubleword)
    write(Structure.used, queue.used, .quadword)
    let vector = random.number(below: 6 as UInt64)
    write(Structure.queueVector, vector, .word)
    setMessage(vector, &random)
    write(Structure.queueEnable, 1, .word)
  }

  /// An entry of MSI-X's table: a message to a local APIC, masked or not.
  private func setMessage(_ vector: UInt64, _ random: inout FuzzRandom) {
    let entry = Structure.end + 16 * vector
    write(entry, 0xfee0_0000 | random.number(below: 256 as UInt64) << 12, .doubleword)
    write(entry + 4, 0, .doubleword)
    write(entry + 8, random.number(below: 256 as UInt64), .doubleword)
    write(entry + 12, random.number(below: 2 as UInt64), .doubleword)
  }

  func start() { write(Structure.status, DriverStatus.all, .byte) }

  func run(queue: Int) {
    write(Structure.notification + 4 * UInt64(queue), UInt64(queue), .word)
    for device in devices { device.processQueues() }
  }

  func acknowledge(_ random: inout FuzzRandom) {
    if random.chance(2) { _ = read(Structure.reasons, .byte) } else { setMessage(random.number(below: 6), &random) }
  }

  func disturb(_ random: inout FuzzRandom) {
    let width = random.pick(AccessWidth.allCases)
    let value = random.chance(2) ? random.number(below: 256 as UInt64) : random.next()
    switch random.number(below: 5) {
    case 0, 1:
      let place = random.number(below: (random.chance(2) ? 0x40 : 0x5000) as UInt64)
      // Tables are in the playground, or in no memory.
      let isBounded = Self.tables.contains(place) && value & 0xffff_ffff < RandomGuest.memorySize
      write(place, (isBounded ? value % RandomGuest.playground : value) & width.allOnes, width)
    case 2: _ = read(random.number(below: 0x5000 as UInt64), width)
    case 3: configure(messageControl, random.next() & 0xc000, .word)
    default: disturbConfiguration(&random, width, value & width.allOnes)
    }
  }

  /// Any register of any function, by either way.
  /// - Returns: what was read, if it was.
  func disturbConfiguration(_ random: inout FuzzRandom, _ width: AccessWidth, _ value: UInt64) {
    let interesting: [UInt64] = [0x04, 0x06, 0x10, 0x14, 0x18, 0x34, 0x3c, 0x40, 0x42, 0x9c, 0xa0, 0xa4, 0xa8, 0xac]
    let register = random.chance(2) ? random.pick(interesting) : random.number(below: 0x1000 as UInt64)
    let device =
      random.chance(10) ? random.number(below: 32 as UInt64) : 1 + random.number(below: UInt64(devices.count))
    let place = Self.configurationPlace(register, device: device)
    guard random.chance(3) else {
      if random.chance(2) {
        _ = bus.readMemory(GuestPhysicalAddress(place), width: width)
      } else {
        _ = bus.writeMemory(GuestPhysicalAddress(place), value, width: width)
      }
      return
    }
    // By the ports (PCI 3.0, 3.2.2.3.2).
    _ = bus.writePort(
      0xcf8, UInt32(truncatingIfNeeded: 0x8000_0000 | device << 11 | register & 0xfc), width: .doubleword)
    let port = UInt16(0xcfc + random.number(below: 4))
    if random.chance(2) {
      _ = bus.readPort(port, width: width)
    } else {
      _ = bus.writePort(port, UInt32(truncatingIfNeeded: value), width: width)
    }
  }

  func stop() { for device in devices { device.stop() } }
}
