import Synchronization
import TrivisorVMM

/// The common configuration: fields are accessed by their own width, those of 64 bits also by their halves; other widths read as
/// zero and write nothing.
extension VirtioPCI {
  /// struct virtio_pci_common_cfg (virtio 1.2, 4.1.4.3).
  enum CommonRegister {
    static let deviceFeatureSelect: UInt64 = 0x00
    static let deviceFeature: UInt64 = 0x04
    static let driverFeatureSelect: UInt64 = 0x08
    static let driverFeature: UInt64 = 0x0c
    static let configurationVector: UInt64 = 0x10
    static let queueCount: UInt64 = 0x12
    static let deviceStatus: UInt64 = 0x14
    static let configurationGeneration: UInt64 = 0x15
    static let queueSelect: UInt64 = 0x16
    static let queueSize: UInt64 = 0x18
    static let queueVector: UInt64 = 0x1a
    static let queueEnable: UInt64 = 0x1c
    static let queueNotificationOffset: UInt64 = 0x1e
    static let queueDescriptors: UInt64 = 0x20
    static let queueDriver: UInt64 = 0x28
    static let queueDevice: UInt64 = 0x30
    static let size: UInt64 = 0x38
  }

  private var selectedQueue: Int { Int(queueSelect.load(ordering: .relaxed)) }

  func readCommon(_ offset: UInt64, _ width: AccessWidth) -> UInt64 {
    switch (offset, width) {
    case (CommonRegister.queueDescriptors..<CommonRegister.size, .quadword) where offset & 7 == 0:
      layoutField(offset)
    case (CommonRegister.queueDescriptors..<CommonRegister.size, .doubleword) where offset & 3 == 0:
      layoutField(offset & ~7) >> (offset & 4 == 0 ? 0 : 32) & 0xffff_ffff
    case (_, .doubleword): UInt64(readDoubleword(offset))
    case (_, .word): UInt64(readWord(offset))
    case (CommonRegister.deviceStatus, .byte): UInt64(control.status)
    case (CommonRegister.configurationGeneration, .byte):
      UInt64(control.host.generation.load(ordering: .acquiring) & 0xff)
    default: 0
    }
  }

  private func layoutField(_ offset: UInt64) -> UInt64 {
    guard let layout = control.layout(ofQueue: selectedQueue) else { return 0 }
    switch offset {
    case CommonRegister.queueDescriptors: return layout.descriptors
    case CommonRegister.queueDriver: return layout.available
    case CommonRegister.queueDevice: return layout.used
    default: return 0
    }
  }

  private func readDoubleword(_ offset: UInt64) -> UInt32 {
    switch offset {
    case CommonRegister.deviceFeatureSelect: return deviceFeaturesSelect.load(ordering: .relaxed)
    case CommonRegister.deviceFeature:
      let features = control.offeredFeatures.rawValue
      switch deviceFeaturesSelect.load(ordering: .relaxed) {
      case 0: return UInt32(truncatingIfNeeded: features)
      case 1: return UInt32(truncatingIfNeeded: features >> 32)
      default: return 0
      }
    case CommonRegister.driverFeatureSelect: return driverFeaturesSelect.load(ordering: .relaxed)
    case CommonRegister.driverFeature:
      let accepted = control.acceptedFeatures.rawValue
      switch driverFeaturesSelect.load(ordering: .relaxed) {
      case 0: return UInt32(truncatingIfNeeded: accepted)
      case 1: return UInt32(truncatingIfNeeded: accepted >> 32)
      default: return 0
      }
    default: return 0
    }
  }

  private func readWord(_ offset: UInt64) -> UInt16 {
    let queue = selectedQueue
    let isThere = control.queues.indices.contains(queue)
    switch offset {
    case CommonRegister.configurationVector: return interrupts.state.withLock { $0.configurationVector }
    case CommonRegister.queueCount: return UInt16(truncatingIfNeeded: control.queues.count)
    case CommonRegister.queueSelect: return UInt16(truncatingIfNeeded: queue)
    case CommonRegister.queueSize:
      // The largest until the driver chooses another; zero says that there is no such queue.
      guard let layout = control.layout(ofQueue: queue) else { return 0 }
      return layout.size == 0 ? control.queues[queue].maximumSize : UInt16(truncatingIfNeeded: layout.size)
    case CommonRegister.queueVector:
      return interrupts.state.withLock { isThere ? $0.queueVectors[queue] : VirtioPCIInterrupts.noVector }
    case CommonRegister.queueEnable: return control.isQueueEnabled(queue) ? 1 : 0
    case CommonRegister.queueNotificationOffset: return isThere ? UInt16(truncatingIfNeeded: queue) : 0
    default: return 0
    }
  }

  func writeCommon(_ value: UInt64, _ offset: UInt64, _ width: AccessWidth) {
    let low = UInt32(truncatingIfNeeded: value)
    switch (offset, width) {
    case (CommonRegister.queueDescriptors..<CommonRegister.size, .quadword) where offset & 7 == 0:
      setLayoutField(offset) { $0 = value }
    case (CommonRegister.queueDescriptors..<CommonRegister.size, .doubleword) where offset & 3 == 0:
      setLayoutField(offset & ~7) { field in
        field = offset & 4 == 0 ? field & 0xffff_ffff << 32 | UInt64(low) : field & 0xffff_ffff | UInt64(low) << 32
      }
    case (CommonRegister.deviceFeatureSelect, .doubleword): deviceFeaturesSelect.store(low, ordering: .relaxed)
    case (CommonRegister.driverFeatureSelect, .doubleword): driverFeaturesSelect.store(low, ordering: .relaxed)
    case (CommonRegister.driverFeature, .doubleword):
      let select = driverFeaturesSelect.load(ordering: .relaxed)
      if select < 2 { control.acceptFeatures(low, high: select == 1) }
    case (_, .word): writeWord(UInt16(truncatingIfNeeded: value), offset)
    case (CommonRegister.deviceStatus, .byte):
      control.writeStatus(UInt8(truncatingIfNeeded: value))
      if value & 0xff == 0 { reset() }
      bindDoorbells()
    default: break
    }
  }

  private func reset() {
    interrupts.reset()
    deviceFeaturesSelect.store(0, ordering: .relaxed)
    driverFeaturesSelect.store(0, ordering: .relaxed)
    queueSelect.store(0, ordering: .relaxed)
  }

  private func setLayoutField(_ offset: UInt64, _ change: (inout UInt64) -> Void) {
    control.changeLayout(ofQueue: selectedQueue) { layout in
      switch offset {
      case CommonRegister.queueDescriptors: change(&layout.descriptors)
      case CommonRegister.queueDriver: change(&layout.available)
      case CommonRegister.queueDevice: change(&layout.used)
      default: break
      }
    }
  }

  private func writeWord(_ value: UInt16, _ offset: UInt64) {
    let queue = selectedQueue
    switch offset {
    case CommonRegister.configurationVector:
      interrupts.state.withLock { $0.configurationVector = Self.vector(value, $0) }
    case CommonRegister.queueSelect: queueSelect.store(value, ordering: .relaxed)
    case CommonRegister.queueSize: control.changeLayout(ofQueue: queue) { $0.size = UInt64(value) }
    case CommonRegister.queueVector:
      guard control.queues.indices.contains(queue) else { return }
      interrupts.state.withLock { $0.queueVectors[queue] = Self.vector(value, $0) }
    case CommonRegister.queueEnable:
      // A queue is taken back by a reset of the device alone.
      guard value == 1, control.queues.indices.contains(queue), !control.isQueueEnabled(queue) else { return }
      let largest = control.queues[queue].maximumSize
      control.changeLayout(ofQueue: queue) { if $0.size == 0 { $0.size = UInt64(largest) } }
      control.setQueue(queue, enabled: true)
      bindDoorbells()
    default: break
    }
  }

  /// What a driver finds when it reads back which vector it has got: none that is not in the table.
  private static func vector(_ value: UInt16, _ state: VirtioPCIInterrupts.State) -> UInt16 {
    Int(value) < state.table.count ? value : VirtioPCIInterrupts.noVector
  }
}
