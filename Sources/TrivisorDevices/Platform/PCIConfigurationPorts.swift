import Synchronization
import TrivisorVMM

/// The configuration ports of PCI (mechanism 1; PCI Local Bus Specification 3.0, 3.2.2.3.2) on a machine without PCI.
///
/// The address register can be written and read back, which is how firmware and kernels detect the mechanism; whatever
/// it selects, the data register reads as ones, which means that no device is there.
public final class PCIConfigurationPorts: PortDevice {
  /// The address register's port; the data register follows it.
  public static let conventionalPort: UInt16 = 0xcf8
  /// How many ports it answers.
  public static let portCount: UInt16 = 8

  private let address = Atomic<UInt32>(0)
  private let resetControl: ResetControl?

  /// - Parameter resetControl: answers byte accesses to the second port, where it lies on a PC.
  public init(resetControl: ResetControl? = nil) {
    self.resetControl = resetControl
  }

  /// The address register as a whole; ones for everything else.
  public func read(at offset: UInt16, width: AccessWidth) -> UInt32 {
    switch (offset, width) {
    case (0, .doubleword): address.load(ordering: .relaxed)
    case (1, .byte): resetControl?.read(at: 0, width: .byte) ?? 0xff
    default: UInt32(truncatingIfNeeded: width.allOnes)
    }
  }

  /// The address register as a whole: enable bit, bus, device, function and doubleword. The rest has no effect.
  public func write(_ value: UInt32, at offset: UInt16, width: AccessWidth) -> DeviceEffect {
    switch (offset, width) {
    case (0, .doubleword): address.store(value & 0x80ff_fffc, ordering: .relaxed)
    case (1, .byte): return resetControl?.write(value, at: 0, width: .byte) ?? .none
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
      subject, requires: saved.address & ~0x80ff_fffc == 0,
      "its address register is \(hexadecimal(UInt64(saved.address)))")
    try restoring(
      subject, requires: (saved.resetControl == nil) == (resetControl == nil), "only one of both has a reset control")
    if let saved = saved.resetControl { try resetControl?.restore(saved) }
    address.store(saved.address, ordering: .relaxed)
  }
}
