/// The configuration space that every function has, by the names of its registers (PCI Local Bus Specification 3.0, 6.1; type 0).
public enum PCIRegister {
  static let vendorID = 0x00
  static let deviceID = 0x02
  static let command = 0x04
  static let status = 0x06
  static let revisionID = 0x08
  static let classCode = 0x09
  static let headerType = 0x0e
  static let baseAddress = 0x10
  static let subsystemVendorID = 0x2c
  static let subsystemID = 0x2e
  static let capabilities = 0x34
  static let interruptLine = 0x3c
  static let interruptPin = 0x3d

  /// Bytes of a function's configuration space, which extended configuration space (PCI Express) would follow.
  static let spaceSize = 0x100
  /// Bytes of address space that ECAM gives to a function (PCI Express Base Specification 5.0, 7.2.2).
  static let extendedSpaceSize = 0x1000
}

/// Bits of the command register that functions here have (PCI 3.0, 6.2.2).
struct PCICommand: OptionSet, Sendable {
  let rawValue: UInt16
  /// The function answers at the addresses in its base address registers.
  static let memorySpace = PCICommand(rawValue: 1 << 1)
  /// It may read and write memory, and send messages.
  static let busMaster = PCICommand(rawValue: 1 << 2)
  /// It must not use its interrupt pin.
  static let interruptDisable = PCICommand(rawValue: 1 << 10)

  static let all: PCICommand = [.memorySpace, .busMaster, .interruptDisable]
}

/// Bits of the status register (PCI 3.0, 6.2.3).
enum PCIStatus {
  /// The function would use its interrupt pin.
  static let interrupt: UInt16 = 1 << 3
  static let capabilitiesList: UInt16 = 1 << 4
}

/// Types of capabilities (PCI 3.0, appendix H).
enum PCICapability {
  static let vendorSpecific: UInt8 = 0x09
  static let messageSignalledInterruptsExtended: UInt8 = 0x11
}

/// Where a function is on bus 0 (PCI 3.0, 3.2.2.3.2).
public struct PCIAddress: Hashable, Sendable {
  /// 0 to 31.
  public let device: Int
  /// 0 to 7.
  public let function: Int

  /// The lowest bits count.
  public init(device: Int, function: Int) {
    self.device = device & 0x1f
    self.function = function & 0x07
  }

  /// Eight bits: the device's five, then the function's three.
  var number: Int { device << 3 | function }
}
