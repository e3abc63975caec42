import TrivisorDevices
import TrivisorVMM

/// Where the virtio devices of a machine are.
///
/// Over MMIO: a page each in the device hole, an I/O APIC input each as long as those last that no ISA device uses. Over PCI: a
/// function each of bus 0, with its regions in the bus' window until the guest moves them; their pins share those inputs.
enum VirtioPlaces {
  static let maximumCount = 64
  private static let base: UInt64 = 0xd000_0000
  private static let firstLine = 16
  private static let lineCount = 8

  static func address(_ index: Int) -> GuestPhysicalAddress {
    GuestPhysicalAddress(base + UInt64(index) * VirtioMMIO.size)
  }

  static func line(_ index: Int) -> Int { firstLine + index % lineCount }

  // MARK: PCI

  static let windowBase: UInt32 = 0xd800_0000
  static let windowSize: UInt32 = 0x0800_0000
  /// Behind the window: the functions' configuration.
  static let configurationBase: UInt64 = 0xe000_0000

  /// Device 0 is the host bridge.
  private static let firstDevice = 1
  private static let deviceCount = 31

  /// The first 31 are devices of their own, the next their second functions.
  static func function(_ index: Int) -> PCIAddress {
    PCIAddress(device: firstDevice + index % deviceCount, function: index / deviceCount)
  }

  /// Whether the function's device has another one.
  static func hasSiblings(_ index: Int, of count: Int) -> Bool { index + deviceCount < count || index >= deviceCount }

  static func region(_ index: Int) -> UInt32 {
    windowBase + UInt32(truncatingIfNeeded: index) * VirtioPCI.windowShare
  }

  static func pins(_ router: InterruptRouter) -> PCIInterruptPins {
    PCIInterruptPins((0..<lineCount).map { InterruptLine(firstLine + $0, router: router) })
  }
}
