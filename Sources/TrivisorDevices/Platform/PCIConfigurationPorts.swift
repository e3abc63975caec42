import Synchronization
import TrivisorVMM

/// The configuration ports of PCI (mechanism 1; PCI Local Bus Specification 3.0, 3.2.2.3.2).
///
/// The address register can be written and read back, which is how firmware and kernels detect the mechanism. On a machine
/// without PCI the data register reads as ones whatever is selected, which means that no device is there.
public final class PCIConfigurationPorts: PortDevice {
  /// The address register's port; the data register follows it.
  public static let conventionalPort: UInt16 = 0xcf8
  /// How many ports it answers.
  public static let portCount: UInt16 = 8

  /// Fields of the address register.
  private enum Field {
    static let enable: UInt32 = 1 << 31
    static let bus: UInt32 = 0xff << 16
    static let all: UInt32 = 0x80ff_fffc
  }

  private static let dataOffset: UInt16 = 4

  private let address = Atomic<UInt32>(0)
  private let resetControl: ResetControl?
  private let bus: PCIBus?

  /// - Parameters:
  ///   - resetControl: answers byte accesses to the second port, where it lies on a PC.
  ///   - bus: what the ports lead to.
  public init(resetControl: ResetControl? = nil, bus: PCIBus? = nil) {
    self.resetControl = resetControl
    self.bus = bus
  }

  /// The function that the address register selects, and its doubleword; `nil` where nothing can be.
  private var selection: (bus: PCIBus, number: Int, register: Int)? {
    let address = address.load(ordering: .relaxed)
    guard let bus, address & Field.enable != 0, address & Field.bus == 0 else { return nil }
    return (bus, Int(address >> 8 & 0xff), Int(address & 0xfc))
  }

  /// The address register as a whole, or what is selected; ones for everything else.
  public func read(at offset: UInt16, width: AccessWidth) -> UInt32 {
    switch (offset, width) {
    case (0, .doubleword): return address.load(ordering: .relaxed)
    case (1, .byte): return resetControl?.read(at: 0, width: .byte) ?? 0xff
    case (Self.dataOffset..., _):
      guard let (bus, number, register) = selection else { break }
      return bus.readConfiguration(number, at: register + Int(offset - Self.dataOffset), width: width)
    default: break
    }
    return UInt32(truncatingIfNeeded: width.allOnes)
  }

  /// The address register as a whole (enable bit, bus, device, function and doubleword), or what is selected. The rest has no
  /// effect.
  public func write(_ value: UInt32, at offset: UInt16, width: AccessWidth) -> DeviceEffect {
    switch (offset, width) {
    case (0, .doubleword): address.store(value & Field.all, ordering: .relaxed)
    case (1, .byte): return resetControl?.write(value, at: 0, width: .byte) ?? .none
    case (Self.dataOffset..., _):
      guard let (bus, number, register) = selection else { break }
      bus.writeConfiguration(number, value, at: register + Int(offset - Self.dataOffset), width: width)
    default: break
    }
    return .none
  }
}

extension PCIConfigurationPorts: Restorable {
  /// The address register, and the reset control that lies within its ports.
  public struct Saved: SavedState {
    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    public static let version = 1
    var address: UInt32
    var resetControl: ResetControl.Saved?
  }

  /// Both registers.
  public func save() -> Saved {
    Saved(address: address.load(ordering: .relaxed), resetControl: resetControl?.save())
  }

  /// - Throws: `RestoreFailure` for bits that a register doesn't keep.
  public func restore(_ saved: Saved) throws(RestoreFailure) {
    let subject = "PCI configuration"
    try restoring(
      subject, requires: saved.address & ~Field.all == 0,
      "its address register is \(hexadecimal(UInt64(saved.address)))")
    try restoring(
      subject, requires: (saved.resetControl == nil) == (resetControl == nil), "only one of both has a reset control")
    if let saved = saved.resetControl { try resetControl?.restore(saved) }
    address.store(saved.address, ordering: .relaxed)
  }
}
