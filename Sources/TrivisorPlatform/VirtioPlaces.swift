import TrivisorDevices
import TrivisorVMM

/// Where the virtio devices of a machine are: a page each in the device hole, an I/O APIC input each as long as those
/// last that no ISA device uses.
enum VirtioPlaces {
  static let maximumCount = 64
  private static let base: UInt64 = 0xd000_0000
  private static let firstLine = 16
  private static let lineCount = 8

  static func address(_ index: Int) -> GuestPhysicalAddress {
    GuestPhysicalAddress(base + UInt64(index) * VirtioMMIO.size)
  }

  static func line(_ index: Int) -> Int { firstLine + index % lineCount }
}
