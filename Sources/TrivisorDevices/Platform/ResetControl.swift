import Synchronization
import TrivisorVMM

/// The reset control register of Intel's chipsets at port 0xcf9 (ICH9 data sheet, 13.7.5).
///
/// Bit 1 says which reset is meant (0 the processor, 1 the system), bit 3 whether power is to be cycled; setting bit 2
/// does it. All of them are the machine's reset here.
///
/// The port lies inside the PCI configuration address, which answers doublewords only: where both are present,
/// `PCIConfigurationPorts` passes byte accesses on.
public final class ResetControl: ByteWidePortDevice {
  /// Its port on a PC.
  public static let conventionalPort: UInt16 = 0xcf9
  /// How many ports it answers.
  public static let portCount: UInt16 = 1
  /// What a guest, or the ACPI reset register's value, writes for a reset of the system.
  public static let resetValue: UInt8 = 0x06

  private let kind = Atomic<UInt8>(0)

  /// In its state after reset: zero.
  public init() {}

  func readByte(at offset: UInt16) -> UInt8 { kind.load(ordering: .relaxed) }

  func writeByte(_ value: UInt8, at offset: UInt16) -> DeviceEffect {
    kind.store(value & 0x0a, ordering: .relaxed)
    return value & 0x04 != 0 ? .stop(.reset) : .none
  }
}

extension ResetControl: Restorable {
  /// The kind of reset.
  public struct Saved: SavedState {
    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    public static let version = 1
    var kind: UInt8
  }

  /// The register.
  public func save() -> Saved { Saved(kind: kind.load(ordering: .relaxed)) }

  /// - Throws: `RestoreFailure` for bits that the register doesn't keep.
  public func restore(_ saved: Saved) throws(RestoreFailure) {
    try restoring("reset control", requires: saved.kind & ~0x0a == 0, "its register is \(saved.kind)")
    kind.store(saved.kind, ordering: .relaxed)
  }
}
