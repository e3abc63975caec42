import Testing
import TrivisorDeviceFuzz
import TrivisorVMM

@testable import TrivisorDevices

/// The driver's side of a virtio device over MMIO, as small as tests need it: it keeps to the rules unless told not to.
final class VirtioDriver: RingDriver {
  typealias Piece = RequestPiece

  enum Register {
    static let features: UInt64 = 0x10
    static let featuresSelect: UInt64 = 0x14
    static let accepted: UInt64 = 0x20
    static let acceptedSelect: UInt64 = 0x24
    static let queueSelect: UInt64 = 0x30
    static let queueMaximum: UInt64 = 0x34
    static let queueSize: UInt64 = 0x38
    static let queueReady: UInt64 = 0x44
    static let notify: UInt64 = 0x50
    static let interruptStatus: UInt64 = 0x60
    static let interruptAcknowledge: UInt64 = 0x64
    static let status: UInt64 = 0x70
    static let descriptors: UInt64 = 0x80
    static let available: UInt64 = 0x90
    static let used: UInt64 = 0xa0
  }

  static let base: UInt64 = 0xd000_0000
  static let needsReset: UInt64 = 64
  static let line = 16

  let memory: GuestMemory
  let device: VirtioMMIO
  let controller: RecordingController
  private let bus: Bus

  init(
    _ type: any VirtioDevice, usesWorker: Bool = false, memorySize: UInt64 = 2 << 20, memory given: GuestMemory? = nil
  ) throws {
    let (line, controller) = recordedLine(Self.line)
    self.controller = controller
    memory = try given ?? GuestMemory(size: memorySize)
    device = try VirtioMMIO(type, memory: memory, interrupt: line, usesWorker: usesWorker)
    bus = try Bus(memory: [
      .init("virtio", base: GuestPhysicalAddress(Self.base), size: VirtioMMIO.size, device: device)
    ])
  }

  func read(_ register: UInt64, width: AccessWidth = .doubleword) -> UInt64 {
    bus.readMemory(GuestPhysicalAddress(Self.base + register), width: width)
  }

  func write(_ register: UInt64, _ value: UInt64, width: AccessWidth = .doubleword) {
    _ = bus.writeMemory(GuestPhysicalAddress(Self.base + register), value, width: width)
  }

  var status: UInt64 { read(Register.status) }
  var isBroken: Bool { status & Self.needsReset != 0 }
  var interrupts: Int { controller.rises(Self.line) }

  // MARK: Set-up

  /// Everything up to FEATURES_OK.
  func negotiate(_ features: VirtioFeatures = []) {
    write(Register.status, 0)
    write(Register.status, 1)
    write(Register.status, 3)
    let accepted = features.union(.version1).rawValue
    for half: UInt64 in 0...1 {
      write(Register.acceptedSelect, half)
      write(Register.accepted, accepted >> (32 * half) & 0xffff_ffff)
    }
    write(Register.status, 11)
  }

  func place(_ queue: RingPlace) {
    for (register, value) in queue.registersOverMMIO { write(register, value) }
  }

  func start() { write(Register.status, 15) }

  /// All of it, with one queue after the other.
  func open(_ queues: [RingPlace], features: VirtioFeatures = []) {
    negotiate(features)
    for queue in queues { place(queue) }
    start()
  }

  func kick(_ queue: Int = 0) { write(Register.notify, UInt64(queue)) }

  /// Lets a device without a thread work.
  func run(_ queue: Int = 0) {
    kick(queue)
    device.processQueues()
  }
}

/// Where a queue's tables are.
typealias RingPlace = QueuePlace

extension QueuePlace {
  static func standard(_ index: Int = 0, size: UInt16 = 16) -> RingPlace {
    let shift = UInt64(index) * 0x1_0000
    return RingPlace(
      index: index, size: size, descriptors: 0x1_0000 + shift, available: 0x1_4000 + shift, used: 0x1_8000 + shift)
  }
}
