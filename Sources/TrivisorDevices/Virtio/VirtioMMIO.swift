// Virtio over MMIO, version 2 (virtio 1.2, 4.2): a page of registers and one interrupt.
//
// Control registers are doublewords and are accessed as such; other widths read as zero there and write nothing. The
// device's own configuration space follows from 0x100 and takes any width.
//
// The interrupt is edge-triggered, one pulse a notification; its reason is in a register that the driver clears. The
// driver clears before it looks at the queues, so what is used between its reading and its clearing is found by that
// look, and what is used later pulses again: nothing is lost.

import Synchronization
import TrivisorVMM

/// A virtio device in guest physical memory.
public final class VirtioMMIO: MemoryDevice, VirtioTransport {
  /// Bytes of registers.
  public static let size: UInt64 = 0x1000

  private enum Register {
    static let magic: UInt64 = 0x000
    static let version: UInt64 = 0x004
    static let deviceID: UInt64 = 0x008
    static let vendorID: UInt64 = 0x00c
    static let deviceFeatures: UInt64 = 0x010
    static let deviceFeaturesSelect: UInt64 = 0x014
    static let driverFeatures: UInt64 = 0x020
    static let driverFeaturesSelect: UInt64 = 0x024
    static let queueSelect: UInt64 = 0x030
    static let queueSizeMaximum: UInt64 = 0x034
    static let queueSize: UInt64 = 0x038
    static let queueReady: UInt64 = 0x044
    static let queueNotify: UInt64 = 0x050
    static let interruptStatus: UInt64 = 0x060
    static let interruptAcknowledge: UInt64 = 0x064
    static let status: UInt64 = 0x070
    static let queueDescriptorsLow: UInt64 = 0x080
    static let queueDescriptorsHigh: UInt64 = 0x084
    static let queueDriverLow: UInt64 = 0x090
    static let queueDriverHigh: UInt64 = 0x094
    static let queueDeviceLow: UInt64 = 0x0a0
    static let queueDeviceHigh: UInt64 = 0x0a4
    static let sharedMemoryLengthLow: UInt64 = 0x0b0
    static let sharedMemoryBaseHigh: UInt64 = 0x0bc
    static let configurationGeneration: UInt64 = 0x0fc
    static let configuration: UInt64 = 0x100
  }

  /// "virt"
  private static let magic: UInt32 = 0x7472_6976
  private static let vendor: UInt32 = ExitCodeRegister.magic

  /// Reasons of the interrupt, until the driver has seen them.
  private final class Interrupt: VirtioNotifier {
    static let used: UInt32 = 1
    static let configuration: UInt32 = 2

    let trigger: InterruptTrigger
    let reasons = Atomic<UInt32>(0)

    init(_ line: InterruptLine) { trigger = InterruptTrigger(line) }

    func notifyUsed(queue: Int) { raise(Self.used) }
    func notifyConfigurationChange() { raise(Self.configuration) }

    private func raise(_ reason: UInt32) {
      reasons.bitwiseOr(reason, ordering: .acquiringAndReleasing)
      trigger.pulse()
    }
  }

  private let control: VirtioControl
  private let interrupt: Interrupt
  private let deviceFeaturesSelect = Atomic<UInt32>(0)
  private let driverFeaturesSelect = Atomic<UInt32>(0)
  private let queueSelect = Atomic<UInt32>(0)

  /// - Parameters:
  ///   - device: gets this transport for good.
  ///   - memory: where queues and buffers are.
  ///   - interrupt: pulsed; the DSDT says edge-triggered, active high.
  /// - Throws: `DeviceFailure` when the host gives no eventfd.
  public convenience init(
    _ device: any VirtioDevice, memory: GuestMemory, interrupt: InterruptLine
  ) throws(DeviceFailure) {
    try self.init(device, memory: memory, interrupt: interrupt, usesWorker: true)
  }

  package init(
    _ device: any VirtioDevice, memory: GuestMemory, interrupt line: InterruptLine, usesWorker: Bool
  ) throws(DeviceFailure) {
    let interrupt = Interrupt(line)
    self.interrupt = interrupt
    control = try VirtioControl(device, memory: memory, notifier: interrupt, usesWorker: usesWorker)
  }

  /// Lets the driver's notifications and the device's interrupts go through eventfds.
  /// - Parameters:
  ///   - binding: the technique's.
  ///   - base: where this device is.
  /// - Throws: `TechniqueFailure` when the host refuses; the device works without.
  public func bind(_ binding: any EventBinding, at base: GuestPhysicalAddress) throws(TechniqueFailure) {
    try interrupt.trigger.bind(binding)
    guard let address = base.advanced(by: Register.queueNotify) else { return }
    let doorbells = control.host.doorbells
    if doorbells.count == 1 {
      return try binding.bindDoorbell(doorbells[0].fileDescriptor, to: address, width: .doubleword, value: nil)
    }
    for queue in control.queues.indices {
      guard let doorbell = control.host.doorbell(ofQueue: queue) else { continue }
      try binding.bindDoorbell(doorbell.fileDescriptor, to: address, width: .doubleword, value: UInt64(queue))
    }
  }

  /// Ends the device's threads after the requests at hand: before guest memory is saved or goes.
  public func stop() { control.worker.stop() }

  /// What the driver did wrong since the last reset, for a report.
  public var fault: VirtioFault? { control.host.fault }

  /// For tests of devices made without a thread.
  package func processQueues() { control.worker.processQueues() }

  /// For tests: of each queue in use, how many requests were given back, modulo 2^16.
  package var usedIndices: [UInt16?] { control.usedIndices }

  // MARK: Reading

  /// A register.
  public func read(at offset: UInt64, width: AccessWidth) -> UInt64 {
    if offset >= Register.configuration {
      var value: UInt64 = 0
      for byte in 0..<UInt64(width.rawValue) {
        value |= UInt64(control.device.configuration(at: offset &- Register.configuration &+ byte)) << (8 * byte)
      }
      return value
    }
    return width == .doubleword ? UInt64(readRegister(offset)) : 0
  }

  private func readRegister(_ offset: UInt64) -> UInt32 {
    switch offset {
    case Register.magic: return Self.magic
    case Register.version: return 2
    case Register.deviceID: return control.device.deviceID.rawValue
    case Register.vendorID: return Self.vendor
    case Register.deviceFeatures:
      let features = control.offeredFeatures.rawValue
      switch deviceFeaturesSelect.load(ordering: .relaxed) {
      case 0: return UInt32(truncatingIfNeeded: features)
      case 1: return UInt32(truncatingIfNeeded: features >> 32)
      default: return 0
      }
    case Register.queueSizeMaximum:
      return control.queues.indices.contains(selectedQueue) ? UInt32(control.queues[selectedQueue].maximumSize) : 0
    case Register.queueReady: return control.isQueueEnabled(selectedQueue) ? 1 : 0
    case Register.interruptStatus: return interrupt.reasons.load(ordering: .acquiring)
    case Register.status: return UInt32(control.status)
    // No shared memory regions: all ones.
    case Register.sharedMemoryLengthLow...Register.sharedMemoryBaseHigh: return .max
    case Register.configurationGeneration: return control.host.generation.load(ordering: .acquiring)
    default: return 0
    }
  }

  private var selectedQueue: Int { Int(queueSelect.load(ordering: .relaxed)) }

  // MARK: Writing

  /// A register.
  public func write(_ value: UInt64, at offset: UInt64, width: AccessWidth) -> DeviceEffect {
    if offset >= Register.configuration {
      control.device.writeConfiguration(value, at: offset &- Register.configuration, width: width)
    } else if width == .doubleword {
      writeRegister(offset, UInt32(truncatingIfNeeded: value))
    }
    return .none
  }

  private func writeRegister(_ offset: UInt64, _ value: UInt32) {
    switch offset {
    case Register.deviceFeaturesSelect: deviceFeaturesSelect.store(value, ordering: .relaxed)
    case Register.driverFeaturesSelect: driverFeaturesSelect.store(value, ordering: .relaxed)
    case Register.driverFeatures:
      let select = driverFeaturesSelect.load(ordering: .relaxed)
      if select < 2 { control.acceptFeatures(value, high: select == 1) }
    case Register.queueSelect: queueSelect.store(value, ordering: .relaxed)
    case Register.queueReady: control.setQueue(selectedQueue, enabled: value & 1 != 0)
    case Register.queueNotify: control.host.wake(queue: Int(value))
    case Register.interruptAcknowledge: interrupt.reasons.bitwiseAnd(~value, ordering: .acquiringAndReleasing)
    case Register.status:
      control.writeStatus(UInt8(truncatingIfNeeded: value))
      if value == 0 { interrupt.reasons.store(0, ordering: .releasing) }
    case Register.queueSize: changeLayout { $0.size = UInt64(value) }
    case Register.queueDescriptorsLow: changeLayout { $0.descriptors.setLow(value) }
    case Register.queueDescriptorsHigh: changeLayout { $0.descriptors.setHigh(value) }
    case Register.queueDriverLow: changeLayout { $0.available.setLow(value) }
    case Register.queueDriverHigh: changeLayout { $0.available.setHigh(value) }
    case Register.queueDeviceLow: changeLayout { $0.used.setLow(value) }
    case Register.queueDeviceHigh: changeLayout { $0.used.setHigh(value) }
    default: break
    }
  }

  private func changeLayout(_ change: (inout SplitRing.Layout) -> Void) {
    control.changeLayout(ofQueue: selectedQueue, change)
  }
}

extension VirtioMMIO: Restorable {
  /// The registers, the queues, and what the device remembers.
  public struct Saved: SavedState {
    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    public static let version = 2
    var control: VirtioControl.Saved
    var interruptReasons: UInt32
    var deviceFeaturesSelect: UInt32
    var driverFeaturesSelect: UInt32
    var queueSelect: UInt32
  }

  /// Keeps the device from its queues; returns when the requests at hand are done, those of its other end included:
  /// writing to a console waits for who reads it. To be followed by `release`.
  public func hold() { control.worker.hold() }

  /// Ends a `hold`.
  public func release() { control.worker.release() }

  /// Between `hold` and `release`, with the processors standing. Guest memory as it is at that time belongs to it.
  public func save() -> Saved {
    Saved(
      control: control.save(), interruptReasons: interrupt.reasons.load(ordering: .acquiring),
      deviceFeaturesSelect: deviceFeaturesSelect.load(ordering: .relaxed),
      driverFeaturesSelect: driverFeaturesSelect.load(ordering: .relaxed),
      queueSelect: queueSelect.load(ordering: .relaxed))
  }

  /// When guest memory is as it was; the device looks at its queues as soon as it is not held.
  /// - Throws: `RestoreFailure` for another type's, queues that are not in memory, or registers that can't be.
  public func restore(_ saved: Saved) throws(RestoreFailure) {
    try restoring(
      "virtio device", requires: saved.interruptReasons & ~(Interrupt.used | Interrupt.configuration) == 0,
      "its interrupt has the reasons \(saved.interruptReasons)")
    try control.restore(saved.control) {
      interrupt.reasons.store(saved.interruptReasons, ordering: .releasing)
      deviceFeaturesSelect.store(saved.deviceFeaturesSelect, ordering: .relaxed)
      driverFeaturesSelect.store(saved.driverFeaturesSelect, ordering: .relaxed)
      queueSelect.store(saved.queueSelect, ordering: .relaxed)
    }
  }
}

extension UInt64 {
  fileprivate mutating func setLow(_ value: UInt32) { self = self & 0xffff_ffff << 32 | UInt64(value) }
  fileprivate mutating func setHigh(_ value: UInt32) { self = self & 0xffff_ffff | UInt64(value) << 32 }
}
