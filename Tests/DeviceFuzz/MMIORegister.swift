/// Offsets of a device's registers over MMIO (virtio 1.2, 4.2.2).
enum MMIORegister {
  static let accepted: UInt64 = 0x20, acceptedSelect: UInt64 = 0x24
  static let queueSelect: UInt64 = 0x30, queueSize: UInt64 = 0x38, queueReady: UInt64 = 0x44
  static let notify: UInt64 = 0x50, interruptAcknowledge: UInt64 = 0x64, status: UInt64 = 0x70
  static let descriptors: UInt64 = 0x80, available: UInt64 = 0x90, used: UInt64 = 0xa0
  static let configuration: UInt64 = 0x100
}
